// Package fleet knows who is out there: devices, the IPCs that speak for them, routes, groups and tags, the secrets
// they sign in with, and the API tokens of people and programs.
package fleet
