package launch

import (
	"reflect"
	"strings"
	"testing"
)

func TestRedisURLs(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]redisURL{
		"redis+sentinel://h1:1,h2:2/m":         {hosts: []string{"h1:1", "h2:2"}, master: "m"},
		"redis+sentinel://h1,[::1],[::1]:5/m/": {hosts: []string{"h1:26379", "[::1]:26379", "[::1]:5"}, master: "m"},
		"rediss+sentinel://u:p%40w@h/m/3?sentinel_username=s&sentinel_password=a%26b": {hosts: []string{"h:26379"}, user: "u",
			password: "p@w", secure: true, master: "m", number: 3, sentinelUser: "s", sentinelPassword: "a&b"},
		"redis+sentinel://:pw@h/m":         {hosts: []string{"h:26379"}, password: "pw", master: "m"},
		"redis+cluster://h1":               {hosts: []string{"h1:6379"}},
		"rediss+cluster://u:p@h1:1,h2:2/0": {hosts: []string{"h1:1", "h2:2"}, user: "u", password: "p", secure: true},
		"redis://a:1,b:2,c:3/0":            {hosts: []string{"a:1", "b:2", "c:3"}},
		"rediss://a,b":                     {hosts: []string{"a:6379", "b:6379"}, secure: true},
	} {
		got, err := parseRedisURL(address)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
		client := got.open()
		if err := client.Close(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"redis://u:p@h:1/2", "rediss://h", "unix:///run/redis.sock?db=1"} {
		if got, err := parseRedisURL(address); err != nil || got.single == nil {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
}

func TestWrongRedisURLs(t *testing.T) {
	t.Parallel()
	for address, says := range map[string]string{
		"":                                      "begin with",
		"localhost":                             "begin with",
		"http://h":                              "begin with",
		"redis+magic://h":                       "begin with",
		"unix+cluster://h":                      "begin with",
		"redis://h:secret@:x":                   "HOST:PORT/NUMBER",
		"redis+sentinel://h":                    "name of the master",
		"redis+sentinel://h/":                   "name of the master",
		"redis+sentinel://h/m/secret":           "must be a number",
		"redis+sentinel://h/m/-1":               "must be a number",
		"redis+sentinel:///m":                   "a host is wrong",
		"redis+sentinel://h,/m":                 "a host is wrong",
		"redis+sentinel://h:99999/m":            "a host is wrong",
		"redis+sentinel://secret:pa%zz@h/m":     "not a URL",
		"redis+sentinel://h/m?master_name=m":    `"master_name"`,
		"redis+cluster://h/1":                   "no database but 0",
		"redis://a,b/1":                         "no database but 0",
		"redis+cluster://h?addr=h2":             "no parameters",
		"redis+cluster://u:secret@h1:1,h2:port": "a host is wrong",
	} {
		err := CheckRedisURL("redis-url", address)
		if err == nil || !strings.HasPrefix(err.Error(), "--redis-url: ") || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
