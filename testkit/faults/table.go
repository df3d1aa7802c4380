package faults

import (
	"time"

	"meterline/fault"
	"meterline/testkit/proxy"
)

const (
	moment = 500 * time.Millisecond
	// beyond is longer than the lease of a partition, so that somebody takes it over.
	beyond = 9 * time.Second
)

// Table is every fault there is, in order of their numbers.
var Table = concat(
	[]Fault{{Number: 1, Name: "gateway-killed", Short: time.Second, Long: 5 * time.Second, inject: killGateway}},
	atGateway(1, fault.UplinkRead, fault.UplinkAppended, fault.UplinkAcknowledged),
	[]Fault{{Number: 2, Name: "backend-killed", Short: time.Second, Long: 12 * time.Second, inject: killBackend}},
	atWorker(2, fault.HoldRenewed, fault.DispatchClaimed, fault.DispatchSent, fault.CollectRead, fault.CollectJudged, fault.CollectCommitted,
		fault.CollectTrimming, fault.ProjectTaken, fault.ProjectCarried, fault.StoreCommitting, fault.StoreCommitted),
	[]Fault{
		{Number: 2, Name: "backend-killed-at-issue-committed", Armed: true, Short: moment, Long: 5 * time.Second, inject: killAtIssue},
		{Number: 2, Name: "backend-killed-at-expand-committed", Armed: true, Short: moment, Long: 5 * time.Second, inject: killAtExpand},
		{Number: 2, Name: "backend-killed-at-sweep-deadline", Armed: true, Short: moment, Long: 5 * time.Second, inject: killAtDeadline},
		{Number: 2, Name: "backend-killed-at-sweep-leases", Armed: true, OnlyLong: true, Long: 5 * time.Second, inject: killAtLease(fault.SweepLeases)},
		{Number: 2, Name: "backend-killed-at-sweep-leases-done", Armed: true, OnlyLong: true, Long: 5 * time.Second, inject: killAtLease(fault.SweepLeasesDone)},
		{Number: 2, Name: "backend-killed-at-take-over-recovered", Armed: true, Short: moment, Long: 5 * time.Second, inject: killAtTakeOver},
		{Number: 2, Name: "backend-killed-at-hold-releasing", Armed: true, Short: moment, Long: 5 * time.Second, inject: killAtRelease},

		{Number: 3, Name: "redis-killed", Short: time.Second, Long: 5 * time.Second, inject: killRedis},
		{Number: 3, Name: "redis-torn", Short: moment, Long: 5 * time.Second, inject: tearRedis},
		{Number: 4, Name: "redis-flushed", Flushes: true, inject: flushRedis},
		{Number: 4, Name: "redis-emptied", Flushes: true, Short: moment, Long: 5 * time.Second, inject: emptyRedis},
		{Number: 5, Name: "redis-paused", Short: 5 * time.Second, Long: 30 * time.Second, inject: pauseRedis},
		{Number: 6, Name: "postgres-restarted", inject: restartPostgres},
		{Number: 6, Name: "postgres-killed", Short: moment, Long: 5 * time.Second, inject: killPostgres},
		{Number: 6, Name: "postgres-away", Short: 5 * time.Second, Long: 30 * time.Second, inject: stopPostgres},
		{Number: 6, Name: "postgres-paused", Short: 5 * time.Second, Long: 30 * time.Second, inject: pausePostgres},
		{Number: 7, Name: "commit-unanswered", inject: cutCommit},
		{Number: 8, Name: "redis-disk-full", Short: 2 * time.Second, Long: 15 * time.Second, inject: fillRedis},
		{Number: 8, Name: "postgres-disk-full", Short: 2 * time.Second, Long: 15 * time.Second, inject: fillPostgres},

		{Number: 9, Name: "gateway-redis-up", Short: 5 * time.Second, Long: 15 * time.Second, inject: partGateway(proxy.Up)},
		{Number: 9, Name: "gateway-redis-down", Short: 5 * time.Second, Long: 15 * time.Second, inject: partGateway(proxy.Down)},
		{Number: 9, Name: "gateway-redis-apart", Short: 5 * time.Second, Long: 15 * time.Second, inject: partGateway(proxy.Up, proxy.Down)},
		{Number: 10, Name: "backend-postgres-up", Short: beyond, Long: 20 * time.Second, inject: partBackend(proxy.Up)},
		{Number: 10, Name: "backend-postgres-down", Short: beyond, Long: 20 * time.Second, inject: partBackend(proxy.Down)},
		{Number: 10, Name: "backend-postgres-apart", Short: beyond, Long: 20 * time.Second, inject: partBackend(proxy.Up, proxy.Down)},
		{Number: 11, Name: "devices-half-open", Short: 3 * time.Second, Long: 100 * time.Second, inject: stallDevices(proxy.Up, proxy.Down)},
		{Number: 11, Name: "devices-not-reading", Short: 3 * time.Second, Long: 60 * time.Second, inject: stallDevices(proxy.Down)},
		{Number: 12, Name: "device-flapping", OnlyLong: true, inject: flap},
		{Number: 13, Name: "device-twice", inject: connectTwice},
		{Number: 14, Name: "clocks-off", Armed: true, Short: 2 * time.Second, Long: 20 * time.Second, inject: setClocks},
		{Number: 15, Name: "backlog", Short: 2 * time.Second, Long: 60 * time.Second, inject: backlog},
		{Number: 16, Name: "poison", inject: poison},
		{Number: 16, Name: "poison-panic", Armed: true, Panics: true, inject: poisonPanic},
		{Number: 17, Name: "all-reconnect", inject: cutDevices},
		{Number: 18, Name: "owner-paused", Short: beyond, Long: 20 * time.Second, inject: pauseOwner},
	},
	stopOwner(18, fault.DispatchClaimed, fault.CollectRead, fault.CollectJudged, fault.CollectCommitted),
	[]Fault{
		{Number: 19, Name: "command-late", Armed: true, Short: 2 * time.Second, Long: 10 * time.Second, inject: delayCommand},
		{Number: 20, Name: "results-odd", inject: oddResults},
		{Number: 28, Name: "rolling-upgrade", inject: upgrade},
	},
)

func concat(parts ...[]Fault) (all []Fault) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func atGateway(number int, points ...fault.Name) (all []Fault) {
	for _, p := range points {
		all = append(all, Fault{Number: number, Name: "gateway-killed-at-" + string(p), Armed: true, Short: moment, Long: 5 * time.Second, inject: killGatewayAt(p)})
	}
	return all
}

func atWorker(number int, points ...fault.Name) (all []Fault) {
	for _, p := range points {
		all = append(all, Fault{Number: number, Name: "backend-killed-at-" + string(p), Armed: true, Short: moment, Long: 12 * time.Second, inject: killWorkerAt(p)})
	}
	return all
}

func stopOwner(number int, points ...fault.Name) (all []Fault) {
	for _, p := range points {
		all = append(all, Fault{Number: number, Name: "owner-stopped-at-" + string(p), Armed: true, Short: beyond, Long: 20 * time.Second, inject: stopWorkerAt(p)})
	}
	return all
}
