package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// limitFiles lets no file that the process writes grow beyond size (setrlimit(2), RLIMIT_FSIZE): a write past it fails. Of all
// that makes a disk look full this is what needs neither a mount nor a capability: prlimit(1) runs as the user of the process.
func limitFiles(ctx context.Context, pid int, size uint64) error {
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(pid), fmt.Sprintf("--fsize=%d:", size))
	cmd.Dir = "/"
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("limit the files of process %d: %w: %s", pid, err, out)
	}
	return nil
}
