package store

import (
	"time"

	"meterline/command"
)

// question is something that a person asks the operations centre.
type question struct {
	name string
	f    command.OperationFilter
}

// questions are what a person asks of a history, the narrow, the wide and the hopeless.
func questions(f fixture, now time.Time) []question {
	f.Helper()
	var one struct {
		ID, Large command.ID
	}
	check(f, f.writes.pool.Get(&one, `
		SELECT (SELECT id FROM commands WHERE tenant = 'acme' AND total = 1 ORDER BY seq DESC LIMIT 1) AS id,
			(SELECT id FROM commands WHERE tenant = 'acme' AND total > 1 ORDER BY seq DESC LIMIT 1) AS large`))
	day := func(n int) time.Time { return now.Add(-time.Duration(n) * 24 * time.Hour) }
	q := []question{
		{"everything", command.OperationFilter{}},
		{"device", command.OperationFilter{DeviceID: "m002010"}},
		{"device that is not there", command.OperationFilter{DeviceID: "nobody"}},
		{"endpoint", command.OperationFilter{EndpointID: "ipc0040"}},
		{"endpoint not asked lately", command.OperationFilter{EndpointID: "ipc0319"}},
		{"endpoint that is not there", command.OperationFilter{EndpointID: "nobody"}},
		{"group of half the devices", command.OperationFilter{Group: "district"}},
		{"group of 1000", command.OperationFilter{Group: "street"}},
		{"group of 20", command.OperationFilter{Group: "house"}},
		{"group of 500 not asked lately", command.OperationFilter{Group: "dormant"}},
		{"empty group", command.OperationFilter{Group: "empty"}},
		{"group that is not there", command.OperationFilter{Group: "nobody"}},
		{"kind of most", command.OperationFilter{Kind: command.MeterRead}},
		{"kind of few", command.OperationFilter{Kind: command.MeterTimeSync}},
		{"kind not asked lately", command.OperationFilter{Kind: command.MeterRelay}},
		{"kind of none", command.OperationFilter{Kind: command.DevicePing}},
		{"command of one", command.OperationFilter{CommandID: one.ID}},
		{"command of many", command.OperationFilter{CommandID: one.Large}},
		{"command that is not there", command.OperationFilter{CommandID: "nobody"}},
		{"code of most", command.OperationFilter{Code: "BUS_TIMEOUT"}},
		{"code of few", command.OperationFilter{Code: "INTERNAL"}},
		{"code of none", command.OperationFilter{Code: "NOBODY"}},
		{"last hour", command.OperationFilter{From: now.Add(-time.Hour)}},
		{"an hour 20 days ago", command.OperationFilter{From: day(20), To: day(20).Add(time.Hour)}},
		{"older than 29 days", command.OperationFilter{To: day(29)}},
		{"before everything", command.OperationFilter{To: day(40)}},
	}
	for _, s := range command.States {
		q = append(q,
			question{string(s), command.OperationFilter{State: s}},
			question{string(s) + ", day 20", command.OperationFilter{State: s, From: day(21), To: day(20)}},
			question{string(s) + ", today", command.OperationFilter{State: s, From: day(1)}},
			question{"device, " + string(s), command.OperationFilter{DeviceID: "m002010", State: s}},
			question{"endpoint, " + string(s), command.OperationFilter{EndpointID: "ipc0040", State: s}},
			question{"endpoint not asked lately, " + string(s), command.OperationFilter{EndpointID: "ipc0319", State: s}},
			question{"group of half the devices, " + string(s) + ", a week", command.OperationFilter{Group: "district", State: s, From: day(7)}},
			question{"group of 1000, " + string(s) + ", a week", command.OperationFilter{Group: "street", State: s, From: day(7)}},
			question{"group of 20, " + string(s), command.OperationFilter{Group: "house", State: s}},
			question{"group not asked lately, " + string(s), command.OperationFilter{Group: "dormant", State: s}},
			question{"kind of few, " + string(s), command.OperationFilter{Kind: command.MeterTimeSync, State: s}},
			question{"kind of none, " + string(s), command.OperationFilter{Kind: command.DevicePing, State: s}},
			question{"command of many, " + string(s), command.OperationFilter{CommandID: one.Large, State: s}},
		)
	}
	return append(q,
		question{"device, a week", command.OperationFilter{DeviceID: "m002010", From: day(7)}},
		question{"device, code", command.OperationFilter{DeviceID: "m002010", Code: "BUS_TIMEOUT"}},
		question{"device, kind", command.OperationFilter{DeviceID: "m002010", Kind: command.MeterTimeSync}},
		question{"endpoint, a week", command.OperationFilter{EndpointID: "ipc0040", From: day(7)}},
		question{"endpoint, day 20", command.OperationFilter{EndpointID: "ipc0040", From: day(21), To: day(20)}},
		question{"endpoint, code", command.OperationFilter{EndpointID: "ipc0040", Code: "BUS_TIMEOUT"}},
		question{"endpoint, kind", command.OperationFilter{EndpointID: "ipc0040", Kind: command.MeterTimeSync}},
		question{"group of 1000, code", command.OperationFilter{Group: "street", Code: "BUS_TIMEOUT"}},
		question{"group of 20, code", command.OperationFilter{Group: "house", Code: "BUS_TIMEOUT"}},
		question{"group of 1000, an hour", command.OperationFilter{Group: "street", From: day(20), To: day(20).Add(time.Hour)}},
		question{"group of 1000, kind of few", command.OperationFilter{Group: "street", Kind: command.MeterTimeSync}},
		question{"group of 20, kind of few", command.OperationFilter{Group: "house", Kind: command.MeterTimeSync}},
		question{"code, today", command.OperationFilter{Code: "BUS_TIMEOUT", From: day(1)}},
		question{"code, failed", command.OperationFilter{Code: "BUS_TIMEOUT", State: command.Failed}},
		question{"code of few, failed", command.OperationFilter{Code: "INTERNAL", State: command.Failed}},
		question{"kind of few, a week", command.OperationFilter{Kind: command.MeterTimeSync, From: day(7)}},
		question{"command of many, code", command.OperationFilter{CommandID: one.Large, Code: "BUS_TIMEOUT"}},
		question{"command of many, device", command.OperationFilter{CommandID: one.Large, DeviceID: "m002010"}},
		question{"all at once", command.OperationFilter{EndpointID: "ipc0040", Group: "street", State: command.Failed, Kind: command.MeterRead,
			Code: "BUSY", From: day(14), To: day(1)}},
	)
}

// commandQuestion is something that a person asks of the list of commands.
type commandQuestion struct {
	name string
	f    command.CommandFilter
}

func commandQuestions(now time.Time) []commandQuestion {
	day := func(n int) time.Time { return now.Add(-time.Duration(n) * 24 * time.Hour) }
	q := []commandQuestion{
		{"everything", command.CommandFilter{}},
		{"device", command.CommandFilter{DeviceID: "m002010"}},
		{"device that is not there", command.CommandFilter{DeviceID: "nobody"}},
		{"endpoint", command.CommandFilter{EndpointID: "ipc0040"}},
		{"endpoint not asked lately", command.CommandFilter{EndpointID: "ipc0319"}},
		{"endpoint that is not there", command.CommandFilter{EndpointID: "nobody"}},
		{"group of half the devices", command.CommandFilter{Group: "district"}},
		{"group of 1000", command.CommandFilter{Group: "street"}},
		{"group of 20", command.CommandFilter{Group: "house"}},
		{"group of 500 not asked lately", command.CommandFilter{Group: "dormant"}},
		{"empty group", command.CommandFilter{Group: "empty"}},
		{"kind of most", command.CommandFilter{Kind: command.MeterRead}},
		{"kind of few", command.CommandFilter{Kind: command.MeterTimeSync}},
		{"kind not asked lately", command.CommandFilter{Kind: command.MeterRelay}},
		{"kind of none", command.CommandFilter{Kind: command.DevicePing}},
		{"code of most", command.CommandFilter{Code: "BUS_TIMEOUT"}},
		{"code of few", command.CommandFilter{Code: "INTERNAL"}},
		{"code of none", command.CommandFilter{Code: "NOBODY"}},
		{"last hour", command.CommandFilter{From: now.Add(-time.Hour)}},
		{"an hour 20 days ago", command.CommandFilter{From: day(20), To: day(20).Add(time.Hour)}},
		{"older than 29 days", command.CommandFilter{To: day(29)}},
		{"before everything", command.CommandFilter{To: day(40)}},
		{"device, a week", command.CommandFilter{DeviceID: "m002010", From: day(7)}},
		{"device, failed", command.CommandFilter{DeviceID: "m002010", State: command.Failed}},
		{"endpoint, code", command.CommandFilter{EndpointID: "ipc0040", Code: "BUS_TIMEOUT"}},
		{"group of 1000, dead", command.CommandFilter{Group: "street", State: command.Dead}},
		{"group of 20, failed, a week", command.CommandFilter{Group: "house", State: command.Failed, From: day(7)}},
		{"group of 1000, code", command.CommandFilter{Group: "street", Code: "BUS_TIMEOUT"}},
		{"group not asked lately, kind of few", command.CommandFilter{Group: "dormant", Kind: command.MeterTimeSync}},
		{"kind of none, failed", command.CommandFilter{Kind: command.DevicePing, Status: command.StatusFailed}},
	}
	for _, s := range asked[1:] {
		q = append(q,
			commandQuestion{string(s), command.CommandFilter{Status: s}},
			commandQuestion{string(s) + ", day 20", command.CommandFilter{Status: s, From: day(21), To: day(20)}},
			commandQuestion{"device, " + string(s), command.CommandFilter{DeviceID: "m002010", Status: s}},
			commandQuestion{"group of 20, " + string(s), command.CommandFilter{Group: "house", Status: s}},
			commandQuestion{"endpoint, " + string(s), command.CommandFilter{EndpointID: "ipc0040", Status: s}})
	}
	for _, s := range command.States {
		q = append(q, commandQuestion{"with an operation " + string(s), command.CommandFilter{State: s}})
	}
	return q
}
