package launch

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meterline/store"
)

// A server that does not answer is given up; a file that a slow disk opens is not.
func TestOnlyServersAreGivenUp(t *testing.T) {
	t.Parallel()
	for databaseURL, bounded := range map[string]bool{
		"postgres://u:p@127.0.0.1:1/x":   true,
		"postgresql://u:p@127.0.0.1:1/x": true,
		"sqlite:meterline.db":            false,
	} {
		ctx, stop := reaching(t.Context(), databaseURL)
		deadline, has := ctx.Deadline()
		if has != bounded || bounded && time.Until(deadline) > reachWithin {
			t.Errorf("%s: deadline %v %t", databaseURL, deadline, has)
		}
		if stop(); ctx.Err() == nil {
			t.Errorf("%s: not over when it was stopped", databaseURL)
		}
	}
}

// What opens a record lets go of the time it had for that: the record is used long after.
func TestTheRecordOutlivesItsOpening(t *testing.T) {
	t.Parallel()
	databaseURL := "sqlite:" + filepath.Join(t.TempDir(), "meterline.db")
	if _, _, err := Store(t.Context(), databaseURL); err == nil || !strings.Contains(err.Error(), "backend migrate") {
		t.Errorf("not migrated: %v", err)
	}
	if err := store.Migrate(t.Context(), store.Options{URL: databaseURL}); err != nil {
		t.Fatal(err)
	}
	db, settings, err := Store(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Ping(t.Context()); err != nil || settings.Partitions != store.Partitions {
		t.Errorf("%v, %+v", err, settings)
	}
}
