package command

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meterline/meterread"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		counts Counts
		want   Status
	}{
		{"nothing to do", Counts{}, StatusSucceeded},
		{"all queued", Counts{Total: 3, Queued: 3}, StatusRunning},
		{"one still queued", Counts{Total: 3, Queued: 1, Succeeded: 2}, StatusRunning},
		{"one still sent", Counts{Total: 3, Sent: 1, Failed: 2}, StatusRunning},
		{"one still delivered", Counts{Total: 3, Delivered: 1, Cancelled: 2}, StatusRunning},
		{"one still accepted", Counts{Total: 3, Accepted: 1, Expired: 2}, StatusRunning},
		{"all succeeded", Counts{Total: 3, Succeeded: 3}, StatusSucceeded},
		{"all cancelled", Counts{Total: 3, Cancelled: 3}, StatusCancelled},
		{"all expired", Counts{Total: 3, Expired: 3}, StatusExpired},
		{"all failed", Counts{Total: 3, Failed: 3}, StatusFailed},
		{"all died", Counts{Total: 3, Dead: 3}, StatusFailed},
		{"failed and died", Counts{Total: 3, Failed: 1, Dead: 2}, StatusFailed},
		{"one did not succeed", Counts{Total: 3, Succeeded: 2, Failed: 1}, StatusPartial},
		{"none succeeded, for different reasons", Counts{Total: 3, Expired: 1, Cancelled: 1, Dead: 1}, StatusPartial},
		{"expired and failed", Counts{Total: 2, Expired: 1, Failed: 1}, StatusPartial},
	} {
		if got := tc.counts.Status(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// Each state has a counter of its own, and together they are all there is.
func TestCountsOf(t *testing.T) {
	t.Parallel()
	var c Counts
	for i, s := range States {
		*c.Of(s) += 1 << i
	}
	want := Counts{Queued: 1, Sent: 2, Delivered: 4, Accepted: 8, Succeeded: 16, Failed: 32, Expired: 64, Cancelled: 128, Dead: 256}
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if c.Open() != 15 {
		t.Errorf("%d are open, want 15", c.Open())
	}
}

// commandOf is a command with one operation in each of the states.
func commandOf(t *testing.T, states ...State) View {
	t.Helper()
	c := testCommand()
	c.Counts.Total = len(states)
	v := c.View()
	for _, s := range states {
		*v.Counts.Of(s)++
		v.Operations = append(v.Operations, operationIn(t, s).View())
	}
	v.Status = v.Counts.Status()
	return v
}

func TestViewAt(t *testing.T) {
	t.Parallel()
	deadline := testCommand().ExpiresAt
	for _, tc := range []struct {
		name   string
		states []State
		at     time.Time
		want   []State
		status Status
	}{
		{"before the deadline", []State{Queued, Sent, Succeeded}, deadline.Add(-time.Microsecond), []State{Queued, Sent, Succeeded}, StatusRunning},
		{"at the deadline", []State{Queued, Sent, Delivered, Accepted}, deadline, []State{Expired, Expired, Expired, Expired}, StatusExpired},
		{"after the deadline, some had ended", []State{Queued, Succeeded, Failed, Cancelled, Dead, Expired}, deadline.Add(time.Hour),
			[]State{Expired, Succeeded, Failed, Cancelled, Dead, Expired}, StatusPartial},
		{"after the deadline, all had ended", []State{Succeeded, Succeeded}, deadline.Add(time.Hour), []State{Succeeded, Succeeded}, StatusSucceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := commandOf(t, tc.states...)
			before := commandOf(t, tc.states...)
			got := v.At(tc.at)
			if !reflect.DeepEqual(v, before) {
				t.Error("the record was changed by looking at it")
			}
			want := Counts{Total: len(tc.states)}
			for i, s := range tc.want {
				*want.Of(s)++
				o := got.Operations[i]
				if o.State != s {
					t.Errorf("operation %d is shown as %s, want %s", i, o.State, s)
				}
				switch {
				case s == tc.states[i] && !reflect.DeepEqual(o, before.Operations[i]):
					t.Errorf("operation %d had ended and is shown otherwise: %+v", i, o)
				case s != tc.states[i] && !o.UpdatedAt.Equal(deadline):
					t.Errorf("operation %d expired at %s, want the deadline", i, o.UpdatedAt)
				}
			}
			if got.Counts != want || got.Status != tc.status {
				t.Errorf("counts %+v and %s, want %+v and %s", got.Counts, got.Status, want, tc.status)
			}
			if expired := !slices.Equal(tc.states, tc.want); expired != (got.FinishedAt != nil) || expired && !got.FinishedAt.Equal(deadline) {
				t.Errorf("finished at %v", got.FinishedAt)
			}
		})
	}
}

// Large commands are shown without their operations, and so they stay.
func TestViewAtWithoutOperations(t *testing.T) {
	t.Parallel()
	v := commandOf(t, Queued)
	v.Counts, v.Operations = Counts{Total: 50_000, Queued: 49_999, Sent: 1}, nil
	got := v.At(v.ExpiresAt)
	if got.Operations != nil || got.Counts != (Counts{Total: 50_000, Expired: 50_000}) || got.Status != StatusExpired {
		t.Errorf("got %+v", got)
	}
}

// From the deadline on nothing is open, nothing got lost, and looking again shows the same.
func TestViewAtProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := testCommand()
		for _, s := range States {
			n := rapid.IntRange(0, 3).Draw(t, string(s))
			*c.Counts.Of(s) = n
			c.Counts.Total += n
		}
		v := c.View()
		if early := v.At(v.ExpiresAt.Add(-1)); !reflect.DeepEqual(early, v) {
			t.Errorf("before the deadline: %+v, want %+v", early, v)
		}
		late := v.At(v.ExpiresAt.Add(time.Duration(rapid.IntRange(0, 1_000_000).Draw(t, "after"))))
		sum := 0
		for _, s := range States {
			sum += *late.Counts.Of(s)
			if want := *v.Counts.Of(s); !s.Open() && s != Expired && *late.Counts.Of(s) != want {
				t.Errorf("%d are %s, want %d", *late.Counts.Of(s), s, want)
			}
		}
		if late.Counts.Open() != 0 || sum != late.Counts.Total || late.Status == StatusRunning {
			t.Errorf("after the deadline: %+v, %s", late.Counts, late.Status)
		}
		if again := late.At(v.ExpiresAt.Add(time.Hour)); !reflect.DeepEqual(again, late) {
			t.Errorf("looking again shows %+v, not %+v", again, late)
		}
	})
}

// The names that outside tools rely on.
func TestViewShape(t *testing.T) {
	t.Parallel()
	c := testCommand()
	c.ParentID = c.ID
	v := c.View()
	v.Links = map[string]string{"self": "/v1/commands/x"}
	o := operationIn(t, Failed)
	o.Readings = []meterread.Reading{{DeviceID: "m-001", Item: "1-0:1.8.0", CommandID: c.ID}}
	v.Operations = []OperationView{o.View()}
	command := membersOf(t, v)
	wantMembers(t, "command", command, "id", "parent_id", "kind", "mode", "status", "priority", "created_at", "expires_at", "finished_at",
		"items", "counts", "errors", "operations", "links")
	wantMembers(t, "counts", command["counts"], "total", "queued", "sent", "delivered", "accepted", "succeeded", "failed", "expired", "cancelled", "dead")
	operation := command["operations"].([]any)[0].(map[string]any)
	wantMembers(t, "operation", operation, "command_id", "device_id", "device", "state", "delivery", "attempts", "error", "readings",
		"from_stock", "late_result_at", "updated_at", "moves")
	wantMembers(t, "device", operation["device"], "name", "kind", "endpoint_id", "route", "tags")
	wantMembers(t, "error", operation["error"], "code", "message")
	wantMembers(t, "move", operation["moves"].([]any)[0], "state", "at")
	wantMembers(t, "reading", operation["readings"].([]any)[0], "device_id", "item", "value", "unit", "read_at", "received_at", "quality", "late", "command_id")

	// Lists are never null, what has not happened is.
	empty := membersOf(t, Command{}.View())
	if empty["finished_at"] != nil || !reflect.DeepEqual(empty["items"], []any{}) || !reflect.DeepEqual(empty["errors"], map[string]any{}) {
		t.Errorf("empty command: %v", empty)
	}
	if _, there := empty["operations"]; there {
		t.Error("operations that were not asked for are shown")
	}
	bare := membersOf(t, (&Operation{}).View())
	if bare["error"] != nil || bare["late_result_at"] != nil || !reflect.DeepEqual(bare["readings"], []any{}) {
		t.Errorf("empty operation: %v", bare)
	}
}

func membersOf(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// wantMembers checks that an object has at least these members.
func wantMembers(t *testing.T, what string, object any, names ...string) {
	t.Helper()
	m, _ := object.(map[string]any)
	for _, name := range names {
		if _, there := m[name]; !there {
			t.Errorf("%s has no %s: %v", what, name, m)
		}
	}
}
