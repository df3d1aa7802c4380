//go:build !faults

package fault

import "time"

// Built says whether this program can be broken.
const Built = false

// Point does nothing.
func Point(Name) {}

// Bug is false.
func Bug(Name) bool { return false }

// Now is time.Now.
func Now() time.Time { return time.Now() }
