package meterread

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkDecodeResults(b *testing.B) {
	for _, n := range []int{1, 50} {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = resultWith("device_id", fmt.Sprintf(`"m-%03d"`, i))
		}
		payload := results(parts...)
		b.Run(fmt.Sprintf("results=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := DecodeResults(payload)
				if err != nil || len(m.Results) != n {
					b.Fatal(len(m.Results), err)
				}
			}
		})
	}
}

func BenchmarkDecodeReadings(b *testing.B) {
	payload := readings(strings.Repeat(someReadingOf("m-001")+",", 49) + someReadingOf("m-001"))
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := DecodeReadings(payload)
		if err != nil || len(m.Readings) != 50 {
			b.Fatal(len(m.Readings), err)
		}
	}
}
