package httpapi

import (
	"strconv"
	"strings"
	"time"
)

// maxWait is how long a client may be made to wait for an end.
const maxWait = 60 * time.Second

// preferredWait is the wait preference (RFC 7240 4.3) of a request's Prefer headers, at most maxWait; 0 when there is
// none that can be understood. Of several the first counts.
func preferredWait(headers []string) time.Duration {
	for _, header := range headers {
		for preference := range strings.SplitSeq(header, ",") {
			preference, _, _ = strings.Cut(preference, ";") // its parameters
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
			if err != nil || n <= 0 {
				return 0
			}
			return min(time.Duration(min(n, 3600))*time.Second, maxWait)
		}
	}
	return 0
}
