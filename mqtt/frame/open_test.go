package frame

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// opens wants our own eyes to find in a packet what mochi's codec found.
func opens(t *testing.T, p []byte, pk packets.Packet) {
	t.Helper()
	switch pk.FixedHeader.Type {
	case packets.Publish:
		got := OpenPublish(pk.ProtocolVersion, p)
		if string(got.Topic) != pk.TopicName || got.ID != pk.PacketID || got.QoS != pk.FixedHeader.Qos ||
			got.Retain != pk.FixedHeader.Retain || got.Alias != pk.Properties.TopicAliasFlag || !bytes.Equal(got.Payload, pk.Payload) {
			t.Errorf("v%d %x: %+v, the codec says %+v", pk.ProtocolVersion, p, got, pk)
		}
	case packets.Puback:
		if id, reason := OpenPuback(p); id != pk.PacketID || reason != pk.ReasonCode {
			t.Errorf("v%d %x: %d %#x, the codec says %d %#x", pk.ProtocolVersion, p, id, reason, pk.PacketID, pk.ReasonCode)
		}
	}
}

// pieces gives one piece at each read; an empty one is a deadline that has passed.
type pieces [][]byte

func (s *pieces) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	piece := (*s)[0]
	if len(piece) == 0 {
		*s = (*s)[1:]
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, piece)
	if (*s)[0] = piece[n:]; n == len(piece) {
		*s = (*s)[1:]
	}
	return n, nil
}

// However a stream is cut, and whatever deadlines pass in the middle of it, the packets are the same.
func TestReaderPutsPiecesTogether(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, size := range []int{0, 1, 9, 13, 14, 15, 100, 2000, smallFrame - 3, smallFrame, 3 * smallFrame, 2, growFrame * 3, 0, 5} {
		p := packets.FixedHeader{Type: packets.Publish, Remaining: size}
		var head bytes.Buffer
		p.Encode(&head)
		one := append(head.Bytes(), bytes.Repeat([]byte{byte(len(want))}, size)...)
		want = append(want, one)
		stream = append(stream, one...)
	}
	for _, step := range []int{1, 2, 3, 7, 16, 17, 1000, smallFrame - 1, smallFrame + 1, 1 << 20} {
		var in pieces
		for at := 0; at < len(stream); at += step {
			in = append(in, nil, stream[at:min(at+step, len(stream))])
		}
		r := NewReader(&in, 1<<20)
		r.opened = true
		for i := range want {
			var got []byte
			err := os.ErrDeadlineExceeded
			for errors.Is(err, os.ErrDeadlineExceeded) {
				ready := r.Ready()
				if got, err = r.Next(); ready && err != nil {
					t.Fatalf("step %d, packet %d: ready, and %v", step, i, err)
				}
			}
			if err != nil || !bytes.Equal(got, want[i]) {
				t.Fatalf("step %d, packet %d: %d bytes, %v", step, i, len(got), err)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) || r.held != nil {
			t.Errorf("step %d: at the end %v, holds %v", step, err, r.held != nil)
		}
	}
}
