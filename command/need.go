package command

import "slices"

func senders(facts []fact) []DeviceID {
	ids := make([]DeviceID, 0, len(facts))
	for _, f := range facts {
		ids = append(ids, f.Endpoint)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// needOf lists what the transaction must see to judge the facts.
func (w *Worker) needOf(facts []fact) Need {
	var need Need
	ops, devices := map[Key]struct{}{}, map[DeviceID]struct{}{}
	for i := range facts {
		f := &facts[i]
		w.name(f)
		for _, k := range f.keys {
			if _, had := ops[k]; !had {
				ops[k] = struct{}{}
				if o := w.knownAs(k); o != nil {
					need.Known = append(need.Known, o)
				} else {
					need.Operations = append(need.Operations, k)
				}
			}
		}
		for _, d := range f.devices {
			if _, had := devices[d]; !had {
				devices[d] = struct{}{}
				need.Devices = append(need.Devices, d)
			}
		}
	}
	return need
}

// name adds the operations that a hint is about, and their devices, which may have moved: only the owner knows which message
// carried which.
func (w *Worker) name(f *fact) {
	if f.Corrupt {
		return
	}
	switch f.Kind {
	case UplinkDelivered, UplinkUndeliverable:
		if m := w.messages[string(f.Payload)]; m != nil && m.endpoint.id == f.Endpoint {
			f.keys = f.keys[:0]
			for k := range m.keys {
				f.keys = append(f.keys, k)
			}
		}
	case UplinkDisconnected:
		if e := w.endpoints[f.Endpoint]; e != nil {
			f.keys = f.keys[:0]
			for k, fl := range e.flights {
				if fl.state == Sent {
					f.keys = append(f.keys, k)
				}
			}
		}
	}
	if f.Kind == UplinkUndeliverable || f.Kind == UplinkDisconnected {
		f.devices = f.devices[:0]
		for _, k := range f.keys {
			f.devices = append(f.devices, k.DeviceID)
		}
	}
}
