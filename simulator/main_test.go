package simulator

import (
	"testing"

	"meterline/testkit"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }
