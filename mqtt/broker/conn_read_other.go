//go:build !unix

package broker

type inbox struct{}
