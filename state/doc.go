// Package state is the live state beside the record: what polls are answered from, the newest readings, who is
// connected where, and the notices by which processes wake each other. It may lose everything at any moment and then
// answers "not here", never with a part. [Redis] shares it between processes, [Memory] keeps it in one; one
// conformance suite holds both to the same promises.
package state
