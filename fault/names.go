package fault

// The points, in the order of a command's life. A point lies between two steps that another process must not be able to
// tell apart from one.
const ()

// The bugs. Each is a line that the product does not have.
const (
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
