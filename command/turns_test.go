package command

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// Who asks while a reading is under way is not given that one: it may have begun before what they know of. But all of them
// share the next.
func TestNobodyIsGivenAReadingThatBeganBeforeTheyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		begun, finish := 0, make(chan struct{})
		ask := func(answers chan int64) {
			v, err := ts.take(t.Context(), "c", func() (View, error) {
				begun++
				n := int64(begun)
				<-finish
				return View{Version: n}, nil
			})
			if err != nil {
				t.Error(err)
			}
			answers <- v.Version
		}
		first, others := make(chan int64, 1), make(chan int64, 10)
		go ask(first)
		synctest.Wait() // it reads
		for range cap(others) {
			go ask(others)
		}
		synctest.Wait()
		if begun != 1 {
			t.Fatalf("%d readings at once", begun)
		}
		close(finish)
		if n := <-first; n != 1 {
			t.Errorf("the first was given reading %d", n)
		}
		for range cap(others) {
			if n := <-others; n != 2 {
				t.Errorf("another was given reading %d", n)
			}
		}
		synctest.Wait()
		if begun != 2 || len(ts.queues) != 0 {
			t.Errorf("%d readings, %d queues left", begun, len(ts.queues))
		}
	})
}

func TestWhoeverGoesAwayDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		finish := make(chan struct{})
		read := func() (View, error) { <-finish; return View{}, nil }
		go func() { _, _ = ts.take(t.Context(), "c", read) }()
		synctest.Wait()
		go func() { _, _ = ts.take(t.Context(), "c", read) }()
		synctest.Wait()
		gone, stop := context.WithCancel(t.Context())
		stop()
		if _, err := ts.take(gone, "c", read); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(finish)
		synctest.Wait()
	})
}
