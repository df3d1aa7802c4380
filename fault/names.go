package fault

// The points, in the order of a command's life. A point lies between two steps that another process must not be able to
// tell apart from one.
const ()

// The bugs. Each is a line that the product does not have.
const ()
