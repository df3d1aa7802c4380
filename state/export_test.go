package state

// AheadGrace is for tests from outside.
const AheadGrace = aheadGrace
