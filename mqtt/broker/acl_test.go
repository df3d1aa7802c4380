package broker

import "testing"

func TestACL(t *testing.T) {
	endpoint := identity{role: roleEndpoint, endpoint: "d1", tenant: "t1"}
	suffixed := endpoint
	suffixed.suffixed = true
	backend := identity{role: roleBackend}
	service := identity{role: roleService, tenant: "t1", token: "x"}
	admin := service
	admin.admin = true
	who := []identity{endpoint, suffixed, backend, service, admin}

	// One letter for each of who: y may, - may not.
	for _, c := range []struct{ topic, publish string }{
		{"meterline/v1/d1/up/ack", "yy---"},
		{"meterline/v1/d1/up/result", "yy---"},
		{"meterline/v1/d1/up/readings", "yy---"},
		{"meterline/v1/d1/up/event", "yy---"},
		{"meterline/v1/d1/up/other", "-----"},
		{"meterline/v1/d1/up/ack/x", "-----"},
		{"meterline/v1/d1/up", "-----"},
		{"meterline/v1/d2/up/result", "-----"},
		{"meterline/v1/d1/down/command", "--y-y"},
		{"meterline/v1/d2/down/command", "--y-y"},
		{"meterline/v1/all/down/command", "-----"},
		{"meterline/v1/group/g/down/command", "-----"},
		{"meterline/v2/d1/up/ack", "-----"},
		{"meterline", "-----"},
		{"plant/boiler", "---yy"},
		{"meterlines/x", "---yy"},
		{"/meterline/v1/d1/down/command", "---yy"},
		{"$SYS/broker/time", "-----"},
		{"$meterline/refused", "-----"},
		{"", "-----"},
	} {
		for i, w := range who {
			if got := w.mayPublish(c.topic); got != (c.publish[i] == 'y') {
				t.Errorf("%v suffixed=%v admin=%v publishes to %q: %v", w.role, w.suffixed, w.admin, c.topic, got)
			}
		}
	}
	for _, c := range []struct{ filter, subscribe string }{
		{"meterline/v1/d1/down/command", "y---y"},
		{"meterline/v1/d2/down/command", "----y"},
		{"meterline/v1/+/down/command", "----y"},
		{"meterline/v1/d1/down/#", "----y"},
		{"meterline/v1/d1/down/command/#", "----y"},
		{"meterline/v1/all/down/command", "----y"},
		{"meterline/v1/group/g/down/command", "----y"},
		{"meterline/v1/+/up/#", "---yy"},
		{"meterline/v1/d1/up/#", "---yy"},
		{"meterline/v1/d1/up/result", "---yy"},
		{"meterline/v1/+/up/+", "---yy"},
		{"meterline/v1/+/+/#", "----y"},
		{"meterline/v1/#", "----y"},
		{"meterline/#", "----y"},
		{"meterline/+/d1/up/ack", "----y"},
		{"#", "---yy"},
		{"+/v1/d1/down/command", "---yy"}, // deliveries are looked at
		{"plant/#", "---yy"},
		{"$SYS/#", "---yy"},
		{"$share/g/plant/#", "---yy"},
		{"$share/g/meterline/v1/+/up/#", "---yy"},
		{"$share/g/meterline/v1/+/down/command", "----y"},
	} {
		for i, w := range who {
			if got := w.maySubscribe(c.filter); got != (c.subscribe[i] == 'y') {
				t.Errorf("%v suffixed=%v admin=%v subscribes to %q: %v", w.role, w.suffixed, w.admin, c.filter, got)
			}
		}
	}
	anybody := identity{role: roleService}
	for _, c := range []struct {
		who    identity
		topic  string
		tenant string
		want   bool
	}{
		{service, "meterline/v1/d1/up/result", "t1", true},
		{service, "meterline/v1/d1/up/result", "t2", false},
		{service, "meterline/v1/d1/down/command", "t1", false},
		{admin, "meterline/v1/d1/down/command", "t1", true},
		{admin, "meterline/v1/d1/down/command", "t2", false},
		{anybody, "meterline/v1/d1/up/result", "t2", true},
		{anybody, "meterline/v1/d1/down/command", "t2", false},
		{endpoint, "meterline/v1/d1/up/result", "t1", false},
		{backend, "meterline/v1/d1/up/result", "t1", false},
	} {
		if got := c.who.mayReceive(c.topic, "t1"); c.tenant == "t1" && got != c.want {
			t.Errorf("%v receives %q of t1: %v", c.who.role, c.topic, got)
		}
		if got := c.who.mayReceive(c.topic, "t2"); c.tenant == "t2" && got != c.want {
			t.Errorf("%v receives %q of t2: %v", c.who.role, c.topic, got)
		}
	}
}

func TestEndpointSubscriptions(t *testing.T) {
	r := start(t)
	for _, h := range []hi{dev("d1"), dev("d1").v5()} {
		refused := byte(0x80)
		if h.version == 5 {
			refused = 0x87
		}
		c := r.connect(t, h)
		for _, s := range []struct {
			filter string
			qos    byte
			want   byte
		}{
			{"meterline/v1/d1/down/command", 1, 1},
			{"meterline/v1/d1/down/command", 2, 1},
			{"meterline/v1/d1/down/command", 0, 0x80},
			{"meterline/v1/d2/down/command", 1, refused},
			{"meterline/v1/all/down/command", 1, refused},
			{"meterline/v1/group/g/down/command", 1, refused},
			{"meterline/v1/+/down/command", 1, refused},
			{"meterline/v1/d1/#", 1, refused},
			{"$share/g/meterline/v1/d1/down/command", 1, refused},
			{"$SYS/#", 1, refused},
			{"#", 1, refused},
		} {
			if got := c.subscribe(s.filter, s.qos, 1); got != s.want {
				t.Errorf("v%d: %q at QoS %d: %#x, want %#x", c.version, s.filter, s.qos, got, s.want)
			}
		}
	}
}
