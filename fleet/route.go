package fleet

import (
	"bytes"
	"encoding/json"
)

// escaped are the characters that JSON encoders like to escape though they need not (encoding/json: for HTML and
// JavaScript).
var escaped = map[string]string{`0026`: "&", `003c`: "<", `003C`: "<", `003e`: ">", `003E`: ">", `2028`: "\u2028", `2029`: "\u2029"}

// plainRoute writes a route without white space and needless escapes, so that one that is read and written again is the
// same and no longer than it was. What is no JSON is left as it is.
func plainRoute(route json.RawMessage) json.RawMessage {
	var compact bytes.Buffer
	if json.Compact(&compact, route) != nil {
		return route
	}
	in, out := compact.Bytes(), make([]byte, 0, compact.Len())
	for len(in) > 0 {
		n := 1
		switch {
		case in[0] != '\\':
		case in[1] == 'u':
			n = 6
		default:
			n = 2
		}
		if char, ok := escaped[string(in[min(2, n):n])]; ok && n == 6 {
			out = append(out, char...)
		} else {
			out = append(out, in[:n]...)
		}
		in = in[n:]
	}
	return out
}
