package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"meterline/meterread"
)

// What a device may hold. Routes travel in command messages, which end at 64 KiB.
const (
	maxName     = 200 // characters
	maxRoute    = 4096
	maxTags     = 64
	maxTagKey   = 64
	maxTagValue = 256
	maxGroups   = 64
	maxText     = 1000 // characters of a description
)

// groupName is what a group may be called: it becomes a level of an MQTT topic.
var groupName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

const badGroupName = "must be 1 to 64 of A-Z a-z 0-9 . _ -"

// emptyRoute is the route of a device that is not behind anything.
var emptyRoute = json.RawMessage("[]")

// withDefaults fills in what follows from the rest: an endpoint speaks for itself, and lists are never null.
func (d Device) withDefaults() Device {
	if d.EndpointID == "" && d.Kind != Meter {
		d.EndpointID = d.ID
	}
	if len(d.Route) == 0 || bytes.Equal(d.Route, []byte("null")) {
		d.Route = emptyRoute
	} else {
		d.Route = plainRoute(d.Route)
	}
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	if d.Groups == nil {
		d.Groups = []string{}
	}
	return d
}

// check complains about everything that can be seen in the device alone.
func (d Device) check(wrong *Invalid) {
	if _, err := meterread.ParseDeviceID(string(d.ID)); err != nil {
		wrong.Add("/id", err.Error())
	} else if slices.Contains(reserved, d.ID) {
		wrong.Add("/id", "is reserved: it means something else in topics and to gateways")
	}
	checkText(wrong, "/name", d.Name, maxName)
	hops := d.checkRoute(wrong)
	switch d.Kind {
	case Direct, IPC:
		if d.EndpointID != d.ID {
			wrong.Add("/endpoint_id", "must be the device itself: only a meter has another endpoint")
		}
	case Meter:
		_, err := meterread.ParseDeviceID(string(d.EndpointID))
		switch {
		case d.EndpointID == "":
			wrong.Add("/endpoint_id", "is required: the IPC that speaks for the meter")
		case err != nil:
			wrong.Add("/endpoint_id", err.Error())
		case d.EndpointID == d.ID:
			wrong.Add("/endpoint_id", notAnIPC)
		}
		if hops == 0 {
			wrong.Add("/route", "is required: at least one hop, by which the IPC finds the meter")
		}
	default:
		wrong.Add("/kind", "must be direct, ipc or meter")
	}
	checkTags(wrong, d.Tags)
	checkGroups(wrong, d.Groups)
}

// checkRoute says how many hops there are; -1 when the route was complained about.
func (d Device) checkRoute(wrong *Invalid) int {
	var hops []json.RawMessage
	if len(d.Route) > maxRoute {
		wrong.Add("/route", fmt.Sprintf("must be at most %d bytes", maxRoute))
		return -1
	}
	if err := json.Unmarshal(d.Route, &hops); err != nil {
		wrong.Add("/route", "must be an array of hops")
		return -1
	}
	for i, hop := range hops {
		var fields map[string]any
		if err := json.Unmarshal(hop, &fields); err != nil || len(fields) == 0 {
			wrong.Add(fmt.Sprintf("/route/%d", i), "must be an object that describes the hop")
			return -1
		}
	}
	return len(hops)
}

func checkTags(wrong *Invalid, tags map[string]string) {
	if len(tags) > maxTags {
		wrong.Add("/tags", fmt.Sprintf("must be at most %d", maxTags))
		return
	}
	for _, k := range sortedKeys(tags) {
		at := "/tags/" + escape(k)
		if k == "" {
			wrong.Add(at, "must have a name")
		}
		checkText(wrong, at, k, maxTagKey)
		checkText(wrong, at, tags[k], maxTagValue)
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func checkGroups(wrong *Invalid, groups []string) {
	if len(groups) > maxGroups {
		wrong.Add("/groups", fmt.Sprintf("must be at most %d", maxGroups))
		return
	}
	for i, name := range groups {
		if !groupName.MatchString(name) {
			wrong.Add(fmt.Sprintf("/groups/%d", i), badGroupName)
		} else if slices.Contains(groups[:i], name) {
			wrong.Add(fmt.Sprintf("/groups/%d", i), "is named twice")
		}
	}
}

// checkText complains about text that is too long, not UTF-8 or holds control characters (databases refuse NUL).
func checkText(wrong *Invalid, pointer, s string, limit int) {
	switch {
	case !utf8.ValidString(s):
		wrong.Add(pointer, "must be UTF-8")
	case utf8.RuneCountInString(s) > limit:
		wrong.Add(pointer, fmt.Sprintf("must be at most %d characters", limit))
	case strings.ContainsFunc(s, unicode.IsControl):
		wrong.Add(pointer, "must not hold control characters")
	}
}

// reserved are ids that mean something else in topics (meterline/v1/all/…, meterline/v1/group/…) or as user names.
var reserved = []DeviceID{"all", "group", "service", "backend"}
