// Package holes_test shows each hole of a plain mochi broker, and that ours does not have it: both in one run, over
// real sockets, from outside. docs/edge.md has the table.
package holes_test

import (
	"flag"
	"os"
	"testing"
)

// A hole is shown on a plain broker, where the test fails when it is gone, and looked for in ours: in what endpoints
// meet, in what service clients meet, and in the gateway as a process. nil is where it cannot be.
type hole struct {
	name                       string
	plain                      func(*testing.T)
	endpoint, service, gateway func(*testing.T)
}

var holes = []hole{
	{name: "01_offline_queue", plain: offlineQueuePlain, endpoint: offlineQueueEndpoint, service: offlineQueueService},
	{name: "02_lagging_acks", plain: laggingAcksPlain, endpoint: laggingAcksEndpoint, service: laggingAcksService},
	{name: "03_slow_subscriber", plain: slowSubscriberPlain, endpoint: slowSubscriberEndpoint, service: slowSubscriberService},
	{name: "04_full_queue", plain: fullQueuePlain, endpoint: fullQueueEndpoint, service: fullQueueService},
	{name: "05_packet_id_collision", plain: collisionPlain, endpoint: collisionEndpoint, service: collisionService},
	{name: "06_subscribe_with_a_pending_id", plain: pendingIDPlain, endpoint: pendingIDEndpoint, service: pendingIDService},
	{name: "07_receive_maximum_stalls", plain: windowStallsPlain, endpoint: windowStallsEndpoint, service: windowStallsService},
	{name: "08_receive_maximum_loses", plain: windowLosesPlain, endpoint: windowLosesEndpoint, service: windowLosesService},
	{name: "09_receive_maximum_broken", plain: windowBrokenPlain, endpoint: windowBrokenEndpoint, service: windowBrokenService},
	{name: "10_poisoned_session", plain: poisonedPlain, endpoint: poisonedEndpoint, service: poisonedService},
	{name: "11_deadlock", plain: deadlockPlain, endpoint: deadlockEndpoint, service: deadlockService},
	{name: "12_share_of_the_dead", plain: shareOfTheDeadPlain, endpoint: shareEndpoint, service: shareOfTheDeadService},
	{name: "13_share_of_the_absent", plain: shareOfTheAbsentPlain, service: shareOfTheAbsentService},
	{name: "14_share_of_the_expired", plain: shareOfTheExpiredPlain, service: shareOfTheExpiredService},
	{name: "15_takeover_of_a_stalled_link", plain: stalledTakeoverPlain, endpoint: stalledTakeoverEndpoint, service: stalledTakeoverService},
	{name: "16_zombies", plain: zombiesPlain, endpoint: zombiesEndpoint, service: zombiesService},
	{name: "17_takeover_removes_the_newcomer", plain: removedPlain, endpoint: removedEndpoint, service: removedService},
	{name: "18_keep_alive_overflow", plain: keepAlivePlain, endpoint: keepAliveEndpoint, service: keepAliveService},
	{name: "19_no_file_descriptors", plain: descriptorsPlain, gateway: descriptorsGateway},
	{name: "20_shutdown_hangs", plain: shutdownPlain, gateway: shutdownGateway},
	{name: "21_wrapped_code_panic", plain: wrappedPlain, gateway: wrappedGateway},
	{name: "22_panic_in_a_hook", plain: panicPlain, endpoint: panicEndpoint, service: panicService},
	{name: "23_acknowledged_in_spite_of_errors", plain: errorAckPlain, endpoint: errorAckEndpoint},
	{name: "24_memory_before_admission", plain: memoryPlain, gateway: memoryGateway},
	{name: "25_silent_connection", plain: silentPlain, gateway: silentGateway},
	{name: "26_disconnect_to_311", plain: disconnect311Plain, endpoint: disconnect311Endpoint, service: disconnect311Service},
	{name: "27_publish_without_an_answer", plain: noAnswerPlain, endpoint: noAnswerEndpoint, service: noAnswerService},
	{name: "28_will_past_the_acl", plain: willPlain, endpoint: willEndpoint, service: willService},
	{name: "29_clients_never_forgotten", plain: forgottenPlain, gateway: forgottenGateway},
	{name: "30_killed", plain: killedPlain, endpoint: killedEndpoint},
	{name: "31_illegal_connack", plain: connackPlain, endpoint: connackEndpoint, service: connackService},
	{name: "32_qos2_answered_by_puback", plain: qos2Plain, endpoint: qos2Endpoint, service: qos2Service},
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(be(text))
	}
	flag.Parse()
	if atOnce := flag.Lookup("test.parallel"); atOnce.Value.String() == atOnce.DefValue {
		_ = atOnce.Value.Set("4") // the tests wait more than they work
	}
	os.Exit(m.Run())
}

func TestHole(t *testing.T) {
	for _, h := range holes {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			side(t, "plain", h.plain)
			t.Run("ours", func(t *testing.T) {
				t.Parallel()
				side(t, "endpoint", h.endpoint)
				side(t, "service", h.service)
				side(t, "gateway", h.gateway)
			})
		})
	}
}

func side(t *testing.T, name string, test func(*testing.T)) {
	if test == nil {
		return
	}
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		test(t)
	})
}

// gone says that a plain broker does not have a hole any more: what ours does against it may not be needed.
func gone(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Errorf("a plain broker does not have this hole any more: "+format, args...)
}
