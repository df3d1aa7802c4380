package meterread

// maxDigits is how many digits a value may have, before and after the point together.
const maxDigits = 40

// decodeValue reads a value: a plain decimal in a string or, for endpoints that know no better, a JSON number. Every
// digit is kept as the meter wrote it: "0012.50" stays so.
func decodeValue(raw []byte) (string, *Poison) {
	if absent(raw) || string(raw) == `""` {
		return "", &Poison{CodeValueMissing, "value is missing"}
	}
	switch raw[0] {
	case '{', '[', 't', 'f':
		return "", &Poison{CodeValueNotNumber, "value is neither a string nor a number"}
	case '"':
		raw = unquoted(raw)
	}
	switch n, rest := decimal(raw); {
	case n == 0 || len(rest) > 0 && !isExponent(rest):
		return "", &Poison{CodeValueNotNumber, "value is not a decimal number such as -12.345"}
	case len(rest) > 0:
		return "", &Poison{CodeValueOutOfRange, "value has an exponent"}
	case n > maxDigits:
		return "", &Poison{CodeValueOutOfRange, "value has more than 40 digits"}
	}
	return string(raw), nil
}

// decimal says how many digits the decimal has that b begins with (a minus or none, digits, perhaps a point and
// digits), 0 when it does not begin with one, and what follows it.
func decimal(b []byte) (n int, rest []byte) {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	whole := digits(b)
	if whole == 0 {
		return 0, b
	}
	if b = b[whole:]; len(b) == 0 || b[0] != '.' {
		return whole, b
	}
	fraction := digits(b[1:])
	if fraction == 0 {
		return whole, b // the point is not a number's
	}
	return whole + fraction, b[1+fraction:]
}

// isExponent says whether b is the exponent of a number, such as e999 or E-3.
func isExponent(b []byte) bool {
	if b[0] != 'e' && b[0] != 'E' {
		return false
	}
	if b = b[1:]; len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		b = b[1:]
	}
	return len(b) > 0 && digits(b) == len(b)
}

// digits is how many digits b begins with.
func digits(b []byte) int {
	n := 0
	for n < len(b) && isDigit(b[n]) {
		n++
	}
	return n
}
