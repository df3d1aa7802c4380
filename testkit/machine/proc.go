package machine

import (
	"os"
	"strconv"
	"strings"
)

// memoryMiB is how much memory the machine has; 0 when it does not say.
func memoryMiB() int64 {
	kib, err := strconv.ParseInt(strings.TrimSuffix(procValue("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kib >> 10
}

// procValue is the value of the first line of a file that has the key.
func procValue(file, key string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
