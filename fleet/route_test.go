package fleet

import (
	"encoding/json"
	"testing"
)

func TestPlainRoute(t *testing.T) {
	for in, want := range map[string]string{
		`[ {"a" : "x y"} ]`:                       `[{"a":"x y"}]`,
		`[{"a":"\u0026\u003c\u003E\u2028"}]`:      "[{\"a\":\"&<>\u2028\"}]",
		`[{"a":"\\u0026 \\\u0026 \u00e4 \" \n"}]`: `[{"a":"\\u0026 \\& \u00e4 \" \n"}]`,
		`[{"b":1.50,"a":1e2}]`:                    `[{"b":1.50,"a":1e2}]`,
		`no JSON`:                                 `no JSON`,
	} {
		got := plainRoute(json.RawMessage(in))
		if string(got) != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		again, err := json.Marshal(got) // escapes once more
		if err == nil && string(plainRoute(again)) != want {
			t.Errorf("%s: written again: %s", in, plainRoute(again))
		}
	}
}
