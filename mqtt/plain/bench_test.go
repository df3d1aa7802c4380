package plain

import (
	"fmt"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// sink is a Link that takes everything.
type sink struct{ ids []uint16 }

func (s *sink) Send(pk packets.Packet) error {
	if pk.FixedHeader.Type == packets.Publish && pk.FixedHeader.Qos > 0 {
		s.ids = append(s.ids, pk.PacketID)
	}
	return nil
}

func (s *sink) Stop(packets.Code) {}

func subscriber(h *Hub, key, filter string, qos byte) (*Session, *sink) {
	link := &sink{}
	s, _ := h.Connect(link, Connect{Key: key, Version: 5, Clean: true})
	s.Start()
	_ = s.Packet(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}},
	})
	return s, link
}

// One message to one subscriber, which acknowledges it: what a service that reads along costs per uplink.
func BenchmarkOneSubscriber(b *testing.B) {
	for qos := byte(0); qos <= 1; qos++ {
		b.Run(fmt.Sprint("qos", qos), func(b *testing.B) {
			h := New(Options{})
			s, link := subscriber(h, "c", "meterline/v1/+/up/#", qos)
			payload := make([]byte, 300)
			b.ReportAllocs()
			for b.Loop() {
				h.Publish(Message{Topic: "meterline/v1/meter-000001/up/readings", Payload: payload, QoS: 1})
				for _, id := range link.ids {
					_ = s.Packet(ack(packets.Puback, id))
				}
				link.ids = link.ids[:0]
			}
		})
	}
}

// One message to 10 000 subscribers of its topic.
func BenchmarkFanOut(b *testing.B) {
	for name, second := range map[string]bool{"one filter": false, "two filters": true} {
		b.Run(name, func(b *testing.B) {
			h := New(Options{})
			for i := range 10_000 {
				subscriber(h, fmt.Sprint(i), "plant/boiler", 0)
			}
			if second {
				subscriber(h, "all", "#", 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Publish(Message{Topic: "plant/boiler", QoS: 1})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/subscriber")
		})
	}
}

// 10 000 subscribers, each of its own topic, and publishers on all processors.
func BenchmarkManyTopics(b *testing.B) {
	h := New(Options{})
	topics := make([]string, 10_000)
	for i := range topics {
		topics[i] = fmt.Sprintf("meterline/v1/meter-%06d/up/readings", i)
		subscriber(h, fmt.Sprint(i), topics[i], 0)
	}
	var mu sync.Mutex
	start := 0
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		mu.Lock()
		i := start
		start += 777
		mu.Unlock()
		for ; pb.Next(); i++ {
			h.Publish(Message{Topic: topics[i%len(topics)], QoS: 1})
		}
	})
}
