package fleet

import "fmt"

// UnknownGroup is the error of a device that is to be in a group the tenant does not have.
type UnknownGroup struct {
	Name string
}

func (e *UnknownGroup) Error() string { return fmt.Sprintf("there is no group %q", e.Name) }
