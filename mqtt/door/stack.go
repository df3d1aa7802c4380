package door

import "runtime"

// Deepen makes the stack of the goroutine, which has few frames on it, large enough for signing in or leaving: 16 KiB. It would
// grow anyway, by doubling, each time with more frames on it, and what that costs goes by the frames: a fifth of all that a
// connect cost. The collector makes it small again.
//
//go:noinline
func Deepen() {
	var room [10 << 10]byte // for less than 16 KiB would do
	runtime.KeepAlive(&room)
}
