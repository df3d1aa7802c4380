package main

import (
	"net"
	"strings"
	"testing"
)

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"-broker is missing":           nil,
		"flag provided but not define": {"-nonsense"},
		"unexpected argument":          {"-broker", "x:1", "more"},
		"-device id:secret is missing": {"-broker", "x:1", "-endpoints"},
		"-run: error parsing regexp":   {"-broker", "x:1", "-run", "("},
		"no case matches":              {"-broker", "x:1", "-run", "no such case"},
	} {
		var out, errs strings.Builder
		if status := run(t.Context(), args, &out, &errs); status != 2 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%q: status %d, %q, %q", args, status, errs.String(), out.String())
		}
	}
}

// TestTable runs one case against a server that closes every connection: that is right for one case, and wrong for
// another.
func TestTable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	for _, c := range []struct {
		expr   string
		status int
		want   []string
	}{
		{"^v5/connect/reserved connect flag", 0, []string{"ok ", "3.1.2-3", "1 cases", "0 failed"}},
		{"^v3/connect/accepted", 1, []string{"FAILED", "3.1.4-4", "waiting for CONNACK", "1 failed"}},
	} {
		var out, errs strings.Builder
		if status := run(t.Context(), []string{"-broker", l.Addr().String(), "-run", c.expr}, &out, &errs); status != c.status {
			t.Errorf("%s: status %d: %s%s", c.expr, status, out.String(), errs.String())
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in %s", c.expr, want, out.String())
			}
		}
	}
}
