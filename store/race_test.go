//go:build race

package store

// raceDetector makes large tests smaller: under it everything takes ten times as long.
const raceDetector = true
