package wiretest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestReaderIsStrict gives the reader packets that a server may not send.
func TestReaderIsStrict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		v  Version
		in string
	}{
		"a length in too many bytes":        {V3, "\xd0\x80\x00"},
		"a length of five bytes":            {V3, "\xd0\x80\x80\x80\x80\x00"},
		"flags of PINGRESP":                 {V3, "\xd1\x00"},
		"flags of PUBREL":                   {V3, "\x60\x02\x00\x01"},
		"a body of PINGRESP":                {V3, "\xd0\x01\x00"},
		"CONNECT":                           {V3, "\x10\x00"},
		"DISCONNECT in 3.1.1":               {V3, "\xe0\x00"},
		"AUTH in 3.1.1":                     {V3, "\xf0\x00"},
		"a code of 5 in 3.1.1":              {V3, "\x20\x02\x00\x81"},
		"reserved flags of CONNACK":         {V3, "\x20\x02\x02\x00"},
		"session present in a refusal":      {V3, "\x20\x02\x01\x05"},
		"a short CONNACK":                   {V3, "\x20\x01\x00"},
		"a long CONNACK":                    {V3, "\x20\x03\x00\x00\x00"},
		"no properties in CONNACK":          {V5, "\x20\x02\x00\x00"},
		"a code that CONNACK has not":       {V5, "\x20\x03\x00\x8e\x00"},
		"a property that CONNACK has not":   {V5, "\x20\x05\x00\x00\x02\x01\x01"},
		"a property twice":                  {V5, "\x20\x07\x00\x00\x04\x24\x01\x24\x01"},
		"a property that there is not":      {V5, "\x20\x05\x00\x00\x02\x7f\x01"},
		"a property that is cut":            {V5, "\x20\x05\x00\x00\x02\x21\x01"},
		"a bit that is 2":                   {V5, "\x20\x05\x00\x00\x02\x25\x02"},
		"receive maximum 0":                 {V5, "\x20\x06\x00\x00\x03\x21\x00\x00"},
		"a property length that is too big": {V5, "\x20\x03\x00\x00\x05"},
		"QoS 3":                             {V3, "\x36\x05\x00\x01a\x00\x01"},
		"DUP at QoS 0":                      {V3, "\x38\x03\x00\x01a"},
		"a topic with a wildcard":           {V3, "\x30\x03\x00\x01+"},
		"no topic":                          {V3, "\x30\x02\x00\x00"},
		"a topic that is not UTF-8":         {V3, "\x30\x03\x00\x01\xff"},
		"a topic with U+0000":               {V3, "\x30\x03\x00\x01\x00"},
		"identifier 0":                      {V3, "\x32\x05\x00\x01a\x00\x00"},
		"an acknowledgement of 0":           {V3, "\x40\x02\x00\x00"},
		"a code in PUBACK of 3.1.1":         {V3, "\x40\x03\x00\x01\x00"},
		"a code that PUBACK has not":        {V5, "\x40\x03\x00\x01\x92"},
		"SUBACK without codes":              {V3, "\x90\x02\x00\x01"},
		"a code of SUBACK of 5":             {V3, "\x90\x03\x00\x01\x87"},
		"codes in UNSUBACK of 3.1.1":        {V3, "\xb0\x03\x00\x01\x00"},
		"UNSUBACK of 5 without codes":       {V5, "\xb0\x03\x00\x01\x00"},
		"session expiry in DISCONNECT":      {V5, "\xe0\x07\x00\x05\x11\x00\x00\x00\x01"},
		"a packet that is cut":              {V5, "\xe0\x07\x00"},
	} {
		_, err := readPacket(bufio.NewReader(strings.NewReader(c.in)), c.v)
		if _, ok := errors.AsType[violation](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReaderReadsWhatTheWriterWrites: and back to the same bytes, where a server may send them.
func TestReaderReadsWhatTheWriterWrites(t *testing.T) {
	t.Parallel()
	var props []prop
	for _, id := range propertyIDs() {
		if p := sample(id); p.allowed(publishType) {
			props = append(props, p)
		}
	}
	m := message{topic: "a/b", payload: "x", qos: 2, retain: true, dup: true, id: 7, props: props}
	for _, v := range []Version{V3, V5} {
		b := m.encode(v)
		p, err := readPacket(bufio.NewReader(bytes.NewReader(b)), v)
		if err != nil || p.size != len(b) {
			t.Fatalf("%v: %v", p, err)
		}
		if again := p.encode(v); !bytes.Equal(again, b) {
			t.Errorf("% x became % x", b, again)
		}
	}
	for _, b := range [][]byte{ackCode(pubackType, 1, 0x87, str(reasonString, "why"), user("a", "b")), ackOf(pubrelType, 1), disconnectPacket(V5, 0x8e)} {
		if p, err := readPacket(bufio.NewReader(bytes.NewReader(b)), V5); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestCasesFailAgainstWhatIsNoBroker: a case that cannot fail shows nothing. Against servers that close at once, say
// nothing, or say yes to everything, hardly any may pass.
func TestCasesFailAgainstWhatIsNoBroker(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"closes": func(net.Conn) {},
		"silent": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"says yes": func(c net.Conn) {
			if _, err := c.Read(make([]byte, 4096)); err == nil {
				_, _ = c.Write([]byte{0x20, 2, 0, 0})
				_, _ = io.Copy(io.Discard, c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := Target{Address: listen(t, serve), Patience: 150 * time.Millisecond, Parallel: 300}
			for _, r := range Run(t.Context(), target, Catalogue()) {
				// Closing is what a server may do with most of what is wrong with a CONNECT.
				closing := name == "closes" && (r.Malformed || strings.HasSuffix(r.Name, "method that there is not"))
				if r.Err == nil && r.Skipped == "" && !closing && !strings.HasSuffix(r.Name, "level 3 of MQIsdp") {
					t.Errorf("%s passes", r.Name)
				}
			}
		})
	}
}

// listen serves every connection with f until the end of the test.
func listen(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}
