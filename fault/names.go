package fault

// The points, in the order of a command's life. A point lies between two steps that another process must not be able to
// tell apart from one.
const (
	// IssueCommitted: a command is committed, and neither the live state nor its owners nor who asked know of it.
	IssueCommitted Name = "issue-committed"
	// ExpandCommitted: a chunk of a large command is committed, and its owners were not told.
	ExpandCommitted Name = "expand-committed"

	// HoldRenewed: leases of partitions are renewed and free ones taken, and the worker does not know yet.
	HoldRenewed Name = "hold-renewed"
	// HoldReleasing: a worker is about to give back what is more than its share.
	HoldReleasing Name = "hold-releasing"
	// TakeOverRecovered: a new owner has read what it must know, and knows nothing yet.
	TakeOverRecovered Name = "take-over-recovered"

	// DispatchClaimed: operations are claimed in the record, and nothing was published.
	DispatchClaimed Name = "dispatch-claimed"
	// DispatchSent: messages were handed to the publisher, and no gateway has acknowledged them.
	DispatchSent Name = "dispatch-sent"

	// UplinkRead: a gateway has read an uplink of a device, which is not in the log.
	UplinkRead Name = "uplink-read"
	// UplinkAppended: a batch of uplinks is in the log, and no PUBACK was written.
	UplinkAppended Name = "uplink-appended"
	// UplinkAcknowledged: the PUBACKs were written.
	UplinkAcknowledged Name = "uplink-acknowledged"

	// CollectRead: a batch of the log was read, and no transaction begun.
	CollectRead Name = "collect-read"
	// CollectJudged: what a batch does was decided inside its transaction, and nothing of it is written.
	CollectJudged Name = "collect-judged"
	// CollectCommitted: a batch is committed, and neither the worker's memory nor the log nor the live state know.
	CollectCommitted Name = "collect-committed"
	// CollectTrimming: the log is about to be told how far it is stored.
	CollectTrimming Name = "collect-trimming"
	// JudgeFact, with the id of an endpoint behind it: one message of that endpoint is being judged. A panic here stands for a
	// message that the code cannot bear.
	JudgeFact Name = "judge-fact:"

	// ProjectTaken: what was committed is about to be carried into the live state.
	ProjectTaken Name = "project-taken"
	// ProjectCarried: it is in the live state, and nobody who waits was told.
	ProjectCarried Name = "project-carried"

	// SweepLeases: leases are over, and nothing was written.
	SweepLeases Name = "sweep-leases"
	// SweepLeasesDone: operations of leases that are over are written, and the worker's memory does not know.
	SweepLeasesDone Name = "sweep-leases-done"
	// SweepDeadline: a chunk of what is due has ended, and the worker's memory does not know.
	SweepDeadline Name = "sweep-deadline"

	// StoreCommitting: a transaction that writes is about to be committed.
	StoreCommitting Name = "store-committing"
	// StoreCommitted: it was, and who runs it does not know.
	StoreCommitted Name = "store-committed"
	// LiveApply: it is about to be brought into the live state.
	LiveApply Name = "live-apply"
)

// The bugs. Each is a line that the product does not have.
const (
	// Of the gateway.
	BugPubackFirst    Name = "puback before append"     // an uplink is acknowledged, and then appended
	BugSenderByWord   Name = "sender by its own word"   // whom an uplink is from is taken from its payload
	BugDeliveredEarly Name = "delivered without puback" // a command counts as delivered as soon as it is written
	BugOldStays       Name = "old session stays"        // a takeover on the same gateway leaves the older connection open
	BugOldReigns      Name = "old session elsewhere"    // a newer session on another gateway does not end the one here
	// Of the uplink log.
	BugTrimByLength Name = "trim by length"    // the log is cut to its last entry, read or not
	BugSkipAfter    Name = "skip after flush"  // a log of another generation is read from its end on
	BugPositionLost Name = "position run away" // a batch claims to go one entry further than it does
	// Of the record.
	BugPositionApart  Name = "position apart"  // the position in the log is committed before the data
	BugEndTwice       Name = "end twice"       // operations that have ended expire and are cancelled, too
	BugRevisionAlways Name = "revision always" // a reading that is there is stored again as its next revision
	BugPassedBy       Name = "passed by"       // what is known of an operation is written over what others did meanwhile
	BugKeyIgnored     Name = "key ignored"     // an idempotency key that was used makes another command
	BugCountedTwice   Name = "counted twice"   // an operation that ends counts two for its command
	BugAnyTenant      Name = "any tenant"      // a device is shown to whoever knows its id
	// Of the live state.
	BugOlderOverwrites Name = "older overwrites" // a change is put in place whatever version is there
	BugPartAsWhole     Name = "part as whole"    // half of the operations are put in as if they were all
	// Of the API.
	BugAcceptedUnsaved Name = "accepted unsaved" // 202 where the answer would be 503
	// of the operations' worker (package command), found by its simulation
	BugLeaseByClock    Name = "lease-by-clock"    // a lease is over by the clock, whatever waits in the log
	BugOldDisconnect   Name = "old-disconnect"    // the end of an old session is taken for that of the newest
	BugEndedMoves      Name = "ended-moves"       // a late result changes how an operation ended
	BugEndedRequeued   Name = "ended-requeued"    // a sweep queues again what has ended meanwhile
	BugAttemptForgiven Name = "attempt-forgiven"  // an attempt without an answer is not counted
	BugDoubtIsNo       Name = "doubt-is-no"       // a commit whose outcome is not known is taken for none
	BugPositionAlone   Name = "position-alone"    // the position in the log moves before its data
	BugFlightsLost     Name = "flights-lost"      // a new owner does not learn what is in flight
	BugFirstAnswerLost Name = "first-answer-lost" // an answer to an attempt before the last does not count
	BugLateCounts      Name = "late-counts"       // an answer that came after the deadline counts
	BugShownTakenBack  Name = "shown-taken-back"  // an answer counts after somebody was told that it expired
	BugNoWindow        Name = "no-window"         // an endpoint is sent all there is
	BugSweepUnfenced   Name = "sweep-unfenced"    // leases are swept without a look at the epoch
	BugNoLetter        Name = "no-letter"         // an operation dies without a dead letter
	BugBegunUntracked  Name = "begun-untracked"   // an endpoint that begins after it was given up has no lease
	BugDueByGuess      Name = "due-by-guess"      // what is due by the record's clock, and not by ours, counts as swept
	BugFollowsNot      Name = "follows-not"       // what is queued again stays with the endpoint that its device has left
	BugTakenBackEarly  Name = "taken-back-early"  // what was not handed over goes back whatever has become of it
	BugOthersBegin     Name = "others-begin"      // an endpoint that the device has left says that it has begun
	BugNeverBehind     Name = "never-behind"      // an owner says that the live state has all that it committed
)
