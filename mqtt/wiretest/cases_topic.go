package wiretest

import (
	"fmt"
	"slices"
	"strings"
)

// matching is which topics match a filter (4.7.1), all below a level of the case's own.
var matching = []struct {
	filter string
	yes    []string
	no     []string
}{
	{"sport/tennis/player1/#", []string{"sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"},
		[]string{"sport/tennis/player10", "sport/tennis", "sport/tennis/player2/ranking"}},
	{"sport/#", []string{"sport", "sport/", "sport/a", "sport//", "sport/a/b"}, []string{"sports", "Sport/a", "spor"}},
	{"sport/tennis/+", []string{"sport/tennis/player1", "sport/tennis/"}, []string{"sport/tennis", "sport/tennis/player1/ranking"}},
	{"sport/+", []string{"sport/", "sport/a"}, []string{"sport", "sport/a/"}},
	{"+/tennis/#", []string{"a/tennis", "/tennis", "a/tennis/b/c"}, []string{"tennis", "a/b/tennis"}},
	{"sport/+/player1", []string{"sport/tennis/player1", "sport//player1"}, []string{"sport/player1", "sport/a/b/player1"}},
	{"+/+", []string{"/finance", "a/b", "/", "a/"}, []string{"a", "a/b/c", "//"}},
	{"/+", []string{"/finance", "/"}, []string{"finance", "a/finance", "//"}},
	{"+", []string{"finance", "$x"}, []string{"/finance", "a/b"}},
	{"a//b", []string{"a//b"}, []string{"a/b", "a///b"}},
	{"a/+/+/b", []string{"a///b", "a/1/2/b"}, []string{"a//b"}},
	{"/", []string{"/"}, []string{"//"}},
	{"a/", []string{"a/"}, []string{"a", "a//"}},
	{"+/#", []string{"a", "a/b", "/", "/a/b"}, nil},
	{"#", []string{"a", "/", "a/b/c/d/e/f"}, nil},
	{"a b/\u00e9", []string{"a b/\u00e9"}, []string{"a  b/\u00e9", "a b/e"}},
	{"$a/+", []string{"$a/b"}, []string{"a/b"}},
}

var topicCases = []entry{
	{name: "topic/what filters match", v3: "4.7.1-2 4.7.1-3 4.7.3-4 3.3.2-3", v5: "4.7.1-1 4.7.1-2 4.7.3-4 3.3.2-3", run: func(t *T) {
		publisher := t.another()
		for i, m := range matching {
			c, below := t.another(), t.topic(fmt.Sprint(i, "/"))
			c.sub(below+m.filter, 0)
			for _, name := range slices.Concat(m.no, m.yes) {
				publisher.pub(below+name, name, 0)
			}
			for _, name := range m.yes {
				if p := c.message(); p.topic != below+name {
					t.fail("filter %q: got %q, wanted %q", m.filter, p.payload, name)
				}
			}
			c.nothing(publisher)
			c.bye()
		}
	}},
	{name: "topic/filters of the first level", alone: true, v3: "4.7.1-2 4.7.1-3", v5: "4.7.1-1 4.7.1-2", run: func(t *T) {
		topics := []string{t.unique, t.unique + "/a", "/" + t.unique, "/" + t.unique + "/a"}
		want := map[string][]int{
			"#": {0, 1, 2, 3}, "+": {0}, "+/a": {1}, "/+": {2}, "/#": {2, 3}, "+/+": {1, 2}, "+/+/a": {3}, "+/#": {0, 1, 2, 3}, "/+/#": {2, 3}, "+/" + t.unique + "/#": {2, 3},
		}
		publisher := t.another()
		for f, which := range want {
			c := t.another()
			c.mine = t.unique
			c.sub(f, 0)
			for _, topic := range topics {
				publisher.pub(topic, "x", 0)
			}
			for _, i := range which {
				if p := c.message(); p.topic != topics[i] {
					t.fail("filter %q: got %q, wanted %q", f, p.topic, topics[i])
				}
			}
			c.unsubscribe(f)
			c.nothing(publisher)
			c.bye()
		}
	}},
	{name: "topic/wildcards do not match topics with $", alone: true, v3: "4.7.2-1", v5: "4.7.2-1", run: func(t *T) {
		c, publisher := t.another(), t.another()
		for _, f := range []string{"#", "+/" + t.unique, "+/" + t.unique + "/#", "+/#"} {
			c.mine = t.unique
			c.sub(f, 0)
		}
		for _, topic := range []string{"$" + t.unique, "$x/" + t.unique, "$x/" + t.unique + "/a", "$/" + t.unique} {
			publisher.write(message{topic: topic, payload: "x"}.encode(t.v)) // it may be refused
		}
		publisher.ping()
		c.ping()
		for _, p := range c.queue {
			t.fail("%v", p)
		}
	}},
	{name: "topic/filters may begin with $", v3: "4.7.2-1", v5: "4.7.2-1", run: func(t *T) {
		c := t.client()
		for _, f := range []string{"$SYS/#", "$SYS/" + t.unique + "/+", "$" + t.unique + "/a"} {
			c.write(subscribePacket(t.v, 9, []filter{{f, 0}}))
			c.wait("SUBACK", func(p packet) bool { return p.typ == subackType })
		}
		c.ping()
	}},
	{name: "topic/many levels", v3: "4.7.1", v5: "4.7.1", run: func(t *T) {
		c := t.client()
		deep := t.topic(strings.Repeat("a/", 100) + "b")
		c.sub(deep, 0).sub(t.topic(strings.Repeat("+/", 100)+"c"), 0)
		c.pub(deep, "x", 0)
		c.receive(deep, "x", 0)
		deep = t.topic(strings.Repeat("/", 100) + "c")
		c.pub(deep, "y", 0)
		c.receive(deep, "y", 0)
		c.nothing(c)
	}},
	{name: "topic/case counts", v3: "4.7.3", v5: "4.7.3", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("Accounts"), 0)
		c.pub(t.topic("ACCOUNTS"), "x", 0)
		c.pub(t.topic("accounts"), "x", 0)
		c.pub(t.topic("Accounts"), "y", 0)
		c.receive(t.topic("Accounts"), "y", 0)
		c.nothing(c)
	}},
}

// shares subscribes n clients to one share of topic "a".
func shares(t *T, n int, qos byte, opts ...opt) (members []*conn) {
	for range n {
		c := t.another(opts...)
		c.needShares()
		members = append(members, c.sub("$share/g/"+t.topic("a"), qos))
	}
	return members
}

func (c *conn) needShares() {
	if p, ok := find(c.ack.props, sharedAvailable); ok && p.n == 0 {
		c.t.skip("the server has no shared subscriptions")
	}
}

// drain reads what a member got of topic "a" before the marker.
func (c *conn) drain(marker string) (got []string) {
	for {
		p := c.message()
		if p.topic == marker {
			return got
		}
		c.accept(p)
		got = append(got, p.payload)
	}
}

var sharedCases = []entry{
	{name: "shared/each message goes to one member", v5: "4.8.2 4.8.2-3", run: func(t *T) {
		for qos := range byte(3) {
			publisher, members := t.another(), shares(t, 3, qos)
			marker := t.topic("end")
			for _, c := range members {
				c.sub(marker, 0)
			}
			for _, payload := range numbered("m", 30) {
				publisher.pub(t.topic("a"), payload, qos)
			}
			publisher.pub(marker, "end", 0)
			var got []string
			for _, c := range members {
				got = append(got, c.drain(marker)...)
				c.unsubscribe("$share/g/" + t.topic("a"))
			}
			want := numbered("m", 30)
			slices.Sort(got)
			slices.Sort(want)
			same(t, fmt.Sprint("QoS ", qos), got, want)
		}
	}},
	{name: "shared/every member gets some", v5: "4.8.2", option: "how they are shared out is the server's affair; not all to one", run: func(t *T) {
		publisher, members := t.another(), shares(t, 3, 1)
		marker := t.topic("end")
		for _, c := range members {
			c.sub(marker, 0)
		}
		for _, payload := range numbered("m", 60) {
			publisher.pub(t.topic("a"), payload, 1)
		}
		publisher.pub(marker, "end", 0)
		for i, c := range members {
			if got := c.drain(marker); len(got) == 0 {
				t.fail("member %d got nothing of 60", i)
			}
		}
	}},
	{name: "shared/groups and plain subscriptions each get the message", v5: "4.8.2", run: func(t *T) {
		publisher, c := t.another(), t.another()
		c.needShares()
		plain := t.another().sub(t.topic("a"), 1)
		one, two := t.another().sub("$share/one/"+t.topic("a"), 1), t.another().sub("$share/two/"+t.topic("a"), 1)
		wide := t.another().sub("$share/one/"+t.topic("+"), 1) // the same name with another filter is another share
		publisher.pub(t.topic("a"), "x", 1)
		for _, c := range []*conn{plain, one, two, wide} {
			c.receive(t.topic("a"), "x", 1)
		}
		plain.nothing(publisher)
	}},
	{name: "shared/a client in a share and beside it gets both", v5: "4.8.2", run: func(t *T) {
		publisher, c := t.another(), t.another()
		c.needShares()
		c.sub("$share/g/"+t.topic("a"), 1).sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1)
		c.receive(t.topic("a"), "x", 1)
		c.receive(t.topic("a"), "x", 1)
		c.nothing(publisher)
	}},
	{name: "shared/the granted QoS", v5: "4.8.2-3 3.8.4-8", run: func(t *T) {
		publisher := t.another()
		for granted := range byte(3) {
			members := shares(t, 1, granted)
			for sent := range byte(3) {
				publisher.pub(t.topic("a"), "x", sent)
				members[0].receive(t.topic("a"), "x", min(sent, granted))
			}
			members[0].bye()
		}
	}},
	{name: "shared/retained messages are not sent", v5: "4.8.2 3.3.1.3", run: func(t *T) {
		publisher := t.another()
		publisher.retain(t.topic("a"), "kept", 1)
		c := shares(t, 1, 1)[0]
		c.nothing(publisher)
		publisher.pub(t.topic("a"), "live", 1)
		c.receive(t.topic("a"), "live", 1)
	}},
	{name: "shared/unsubscribing leaves the share", v5: "4.8.2 3.10.4-1", run: func(t *T) {
		publisher, members := t.another(), shares(t, 2, 1)
		members[0].unsubscribe("$share/g/" + t.topic("a"))
		for _, payload := range numbered("m", 10) {
			publisher.pub(t.topic("a"), payload, 1)
		}
		same(t, "the other", members[1].payloads(10, 1), numbered("m", 10))
		members[0].nothing(publisher)
		if codes := members[0].unsubscribe("$share/g/"+t.topic("a"), t.topic("a")); codes[0] != 0x11 || codes[1] != 0x11 {
			t.fail("codes %#x", codes)
		}
	}},
	{name: "shared/wildcards", v5: "4.8.2 4.7.1-1 4.7.1-2", run: func(t *T) {
		publisher, c := t.another(), t.another()
		c.needShares()
		c.sub("$share/g/"+t.topic("+/b/#"), 1)
		publisher.pub(t.topic("a/b/c"), "x", 1)
		c.receive(t.topic("a/b/c"), "x", 1)
		publisher.pub(t.topic("a/c"), "y", 1)
		c.nothing(publisher)
	}},
	{name: "shared/subscription identifiers", v5: "3.3.4-3 4.8.2", run: func(t *T) {
		publisher, c := t.another(), t.another()
		c.needShares()
		c.sub("$share/g/"+t.topic("a"), 1, num(subscriptionIdentifier, 9))
		publisher.pub(t.topic("a"), "x", 1)
		wantIdentifiers(t, c.receive(t.topic("a"), "x", 1), 9)
	}},
	{name: "shared/a member that leaves leaves nothing behind", v5: "4.8.2 4.1.0-2", run: func(t *T) {
		publisher, members := t.another(), shares(t, 2, 1)
		members[0].bye()
		t.client(func(h *hello) { h.id = members[0].said.id }).present(false) // now the session before is surely over
		for _, payload := range numbered("m", 10) {
			publisher.pub(t.topic("a"), payload, 1)
		}
		same(t, "the other", members[1].payloads(10, 1), numbered("m", 10))
	}},
	{name: "shared/a member that is away does not get what the others can take", v5: "4.8.2",
		option: "what is parked for a client that may never come back is of use to nobody", run: func(t *T) {
			publisher, members := t.another(), shares(t, 2, 1, persist(60))
			members[0].bye()
			for _, payload := range numbered("m", 10) {
				publisher.pub(t.topic("a"), payload, 1)
			}
			same(t, "the other", members[1].payloads(10, 1), numbered("m", 10))
		}},
	{name: "shared/all members away", v5: "4.8.2 3.1.2-23", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.needShares()
		c.sub("$share/g/"+t.topic("a"), 1).bye()
		publisher.pub(t.topic("a"), "x", 1)
		back(t).receive(t.topic("a"), "x", 1)
	}},
	{name: "shared/a QoS 2 delivery that was begun is completed with that member", v5: "4.8.2-4 4.4.0-1", run: func(t *T) {
		publisher, c := t.another(), t.client(as("a"), persist(60))
		c.needShares()
		c.sub("$share/g/"+t.topic("a"), 2)
		publisher.pub(t.topic("a"), "x", 2)
		p := c.expect(t.topic("a"), "x", 2)
		other := t.another().sub("$share/g/"+t.topic("a"), 2)
		c.drop()
		c = back(t)
		if again := c.receive(t.topic("a"), "x", 2); again.id != p.id || !again.dup {
			t.fail("%v, first %v", again, p)
		}
		other.nothing(publisher)
	}},
	{name: "shared/a refused message goes to nobody else", v5: "4.8.2-6", run: func(t *T) {
		publisher, c := t.another(), t.another()
		c.needShares()
		c.sub("$share/g/"+t.topic("a"), 1)
		publisher.pub(t.topic("a"), "x", 1)
		p := c.message()
		other := t.another().sub("$share/g/"+t.topic("a"), 1)
		c.write(ackCode(pubackType, p.id, 0x97))
		delete(c.unacked, p.id)
		c.ping()
		other.nothing(publisher)
	}},
	{name: "shared/names that are none", v5: "4.8.2-1 4.8.2-2", bad: true, run: func(t *T) {
		each(t, "filter", []string{"$share//" + t.unique, "$share/" + t.unique, "$share/a+/" + t.unique, "$share/a#/" + t.unique, "$share/+/" + t.unique,
			"$share/#/" + t.unique, "$share/", "$share/g/"}, func(f string) { filterRefused(t, f, 0) })
	}},
	{name: "shared/no local", v5: "3.8.3-4", bad: true, run: func(t *T) {
		c := t.client()
		c.needShares()
		c.write(subscribePacket(t.v, 1, []filter{{"$share/g/" + t.topic("a"), noLocal}}))
		c.dies(0x82)
	}},
	{name: "shared/bad filters in a share", v5: "4.7.1-1 4.7.1-2 4.8.2-2", bad: true, run: func(t *T) {
		each(t, "filter", badFilters, func(f string) { filterRefused(t, "$share/g/"+t.topic(f), 0) })
	}},
}
