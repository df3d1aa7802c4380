package fault

// The points, in the order of a command's life. A point lies between two steps that another process must not be able to
// tell apart from one.
const (
	PointLiveApply Name = "live state apply" // committed, and not yet brought into the live state
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
	BugKeyIgnored     Name = "key ignored"     // an idempotency key that was used makes another command
	BugCountedTwice   Name = "counted twice"   // an operation that ends counts two for its command
	BugAnyTenant      Name = "any tenant"      // a device is shown to whoever knows its id
	// Of the live state.
	BugOlderOverwrites Name = "older overwrites" // a change is put in place whatever version is there
	BugPartAsWhole     Name = "part as whole"    // half of the operations are put in as if they were all
	// Of the API.
	BugAcceptedUnsaved Name = "accepted unsaved" // 202 where the answer would be 503
)
