package plain

import "strings"

const sharePrefix = "$share/"

// validTopic says whether a topic name may be published to: not empty [MQTT-4.7.3-1], no wildcards [MQTT-3.3.2-2], no NUL
// [MQTT-4.7.3-2].
func validTopic(topic string) bool {
	return topic != "" && len(topic) <= 65535 && !strings.ContainsAny(topic, "+#\x00")
}

// validFilter says whether a filter that is not shared is one: # only last and + only alone on their levels
// [MQTT-4.7.1-1] [MQTT-4.7.1-2], not empty, no NUL.
func validFilter(filter string) bool {
	if filter == "" || len(filter) > 65535 || strings.IndexByte(filter, 0) >= 0 {
		return false
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if strings.ContainsAny(level, "+#") && (len(level) > 1 || level == "#" && more) {
			return false
		}
	}
	return true
}

// splitShare takes the filter of a shared subscription apart. ok is false if it is one and is wrong: the name must be
// there, without wildcards, and a filter must follow [MQTT-4.8.2-1] [MQTT-4.8.2-2].
func splitShare(filter string) (name, inner string, ok bool) {
	rest, is := strings.CutPrefix(filter, sharePrefix)
	if !is {
		return "", filter, validFilter(filter)
	}
	name, inner, more := strings.Cut(rest, "/")
	return name, inner, more && name != "" && !strings.ContainsAny(name, "+#\x00") && validFilter(inner)
}

// levels counts those of a topic or filter.
func levels(s string) int { return strings.Count(s, "/") + 1 }
