package plain

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestModel plays long games at random by the rules of FuzzSession, the same ones every time.
func TestModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			m := newModel(t)
			for range 400 {
				what := byte(dice.IntN(10))
				if (what == 1 || what == 9 || what == 0) && dice.IntN(4) > 0 {
					what = 6 // or nothing ever lasts
				}
				m.step(what, byte(dice.IntN(256)), byte(dice.IntN(256)))
				m.look()
			}
			m.finish()
		})
	}
}
