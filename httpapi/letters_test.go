package httpapi

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"meterline/command"
	"meterline/fleet"
)

const letterURL = "/v1/dead-letters/" + theLetter

func TestADeadLetterIsShownWhole(t *testing.T) {
	s := newServer(t, nil)
	handled := time.Date(2026, 1, 31, 12, 0, 1, 0, time.UTC)
	s.commands.letter = command.DeadLetter{Source: command.LetterUplink, Cause: "BAD_JSON", EndpointID: "d 1", DeviceID: "m&1", Kind: command.UplinkResult,
		CommandID: theCommand, ParentID: "p", Again: 2, NewCommand: strangersID, HandledAt: &handled, Payload: []byte("{\x00ä"),
		Decision: &command.LetterDecision{ID: "x", TokenID: "t", TokenName: "n", RequestID: "r", RemoteAddr: "192.0.2.1:1"}}
	var l command.DeadLetter
	s.do("GET", letterURL, "").is(200).json(&l)
	if l.PayloadText == nil || *l.PayloadText != "{\x00ä" || !bytes.Equal(l.Payload, []byte("{\x00ä")) || l.Topic != "meterline/v1/d 1/up/result" {
		t.Errorf("%+v", l)
	}
	for name, want := range map[string]string{
		"self": letterURL, "replay": letterURL + "/replay", "discard": letterURL + "/discard", "parent": "/v1/dead-letters/p",
		"again": "/v1/dead-letters?parent_id=" + theLetter, "command": commandURL, "new_command": "/v1/commands/" + string(strangersID),
		"operation": "/v1/operations?command_id=" + string(theCommand) + "&device_id=m%261",
	} {
		if l.Links[name] != want {
			t.Errorf("link %s is %q, want %q", name, l.Links[name], want)
		}
	}
	s.do("GET", "/v1/dead-letters/nobody", "").problem(404, "NOT_FOUND")
	s.do("GET", "/v1/dead-letters/a%20b", "").problem(404, "NOT_FOUND")
}

func TestPayloadsAreShownAsTextWhereTheyAre(t *testing.T) {
	long := strings.Repeat("x", payloadShown-1) + "ä" // which the cut goes through
	for name, c := range map[string]struct {
		payload string
		text    any
		cut     bool
	}{"none": {"", "", false}, "binary": {"\xff\x00", nil, false}, "long": {long, long[:payloadShown-1], true}, "long binary": {long + "\xff", long[:payloadShown-1], true}} {
		got := showWholeLetter(command.DeadLetter{Source: command.LetterUplink, Payload: []byte(c.payload)})
		if (got.PayloadText == nil) != (c.text == nil) || got.PayloadText != nil && (*got.PayloadText != c.text || !utf8.ValidString(*got.PayloadText)) ||
			got.PayloadCut != c.cut || len(got.Payload) > payloadShown {
			t.Errorf("%s: %d bytes shown, cut %t", name, len(got.Payload), got.PayloadCut)
		}
	}
	if got := showWholeLetter(command.DeadLetter{Source: command.LetterOperation}); got.PayloadText != nil || got.Topic != "" {
		t.Errorf("an operation has no payload: %+v", got)
	}
}

// Whoever decides is written down: the token, the request, where it came from.
func TestDeadLettersAreDecided(t *testing.T) {
	s := newServer(t, nil)
	for verb, status := range map[string]string{"replay": command.LetterReplayed, "discard": command.LetterDiscarded} {
		var l command.DeadLetter
		if s.do("POST", letterURL+"/"+verb, "", "X-Request-ID: shift-7").is(200).json(&l); l.Status != status || l.Links["replay"] != "" {
			t.Errorf("%s: got %+v", verb, l)
		}
		var done command.BulkDecision
		a := s.do("POST", "/v1/dead-letters/"+verb, `{"cause":"BAD_JSON","ids":["a"],"source":"uplink","endpoint_id":"e","device_id":"d","command_id":"c",
			"from":"2026-01-01T00:00:00Z","to":"2026-02-01T00:00:00Z","limit":5}`, "X-Request-ID: shift-7", "Idempotency-Key: "+verb).is(200).json(&done)
		if done.Status != status || done.Letters != 1 || a.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: got %+v", verb, done)
		}
		r := s.commands.selections[len(s.commands.selections)-1]
		if r.Cause != "BAD_JSON" || r.IDs[0] != "a" || r.Source != "uplink" || r.EndpointID != "e" || r.DeviceID != "d" || r.CommandID != "c" || r.From == nil || r.To == nil || *r.Limit != 5 {
			t.Errorf("%s: selected %+v", verb, r)
		}
	}
	for _, by := range s.commands.actors {
		if by.ID != s.adminID || by.Tenant != tenant || by.RequestID != "shift-7" || !strings.HasPrefix(by.RemoteAddr, "127.0.0.1:") {
			t.Errorf("noted %+v", by)
		}
	}
	if k := s.commands.keys; len(s.commands.actors) != 4 || len(k) != 2 || bytes.Equal(k[0].BodyHash, k[1].BodyHash) {
		t.Errorf("%d actors, keys %+v: replaying and discarding are not the same request", len(s.commands.actors), k)
	}
	s.commands.replays = true
	if a := s.do("POST", "/v1/dead-letters/replay", `{"all":true}`, "Idempotency-Key: k").is(200); a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", a.header)
	}
	s.do("POST", "/v1/dead-letters/replay", `{"everything":true}`).problem(422, "INVALID", "/everything")
	s.do("POST", "/v1/dead-letters/replay", `{}`, "Idempotency-Key: ä").problem(422, "INVALID", "header:Idempotency-Key")
}

func TestDeadLettersNeedTheirScope(t *testing.T) {
	s := newServer(t, nil)
	auditor, _ := s.token(fleet.AuditRead)
	reader, _ := s.token(fleet.FleetRead, fleet.CommandsRead, fleet.CommandsWrite)
	for _, path := range []string{"/v1/dead-letters", "/v1/dead-letters/causes", letterURL} {
		s.do("GET", path, "", "Authorization: Bearer "+auditor).is(200)
		s.do("GET", path, "", "Authorization: Bearer "+reader).problem(403, "SCOPE_MISSING")
	}
	for _, path := range []string{letterURL + "/replay", letterURL + "/discard", "/v1/dead-letters/replay", "/v1/dead-letters/discard"} {
		for _, token := range []string{auditor, reader} {
			s.do("POST", path, `{}`, "Authorization: Bearer "+token).problem(403, "SCOPE_MISSING")
		}
	}
	if len(s.commands.actors) != 0 {
		t.Errorf("%d got through", len(s.commands.actors))
	}
}
