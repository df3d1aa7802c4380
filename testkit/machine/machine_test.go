package machine

import (
	"runtime"
	"strings"
	"testing"
)

func TestThis(t *testing.T) {
	m := This()
	if m.Cores != runtime.NumCPU() || m.Go != runtime.Version() || !strings.Contains(m.String(), m.Go) {
		t.Errorf("%+v", m)
	}
	if runtime.GOOS == "linux" && (m.MemoryMiB < 16 || m.Kernel == "" || m.Load == "") {
		t.Errorf("%+v", m)
	}
}
