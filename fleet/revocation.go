package fleet

// Revocation says that somebody may no longer sign in as before: a device that was disabled or deleted or got another
// secret, or a token that was deleted. What is given, such as a device that was enabled, makes none.
type Revocation struct {
	Device DeviceID // "" when it is about a token
	// Now is what the device may sign in with at the moment the revocation was read; nil when there is nothing.
	Now   *Credential
	Token string // id of a token; "" when it is about a device
}
