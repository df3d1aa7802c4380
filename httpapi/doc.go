// Package httpapi serves the HTTP API: REST with RFC 9457 problems, server-sent events, and the OpenAPI description that
// is made from the very code that answers. It decides nothing: it reads requests strictly, asks command.Service and
// fleet.Service, and shows what they say. Errors become statuses in one table, in problem.go.
package httpapi
