package wiretest

var endpointCases = []entry{}
var endpointCommandCases = []entry{}
