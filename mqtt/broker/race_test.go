//go:build race

package broker

// raceDetector makes frames larger.
const raceDetector = true
