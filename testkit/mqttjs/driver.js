// Drives mqtt.js for a test in another language: requests and answers are JSON lines on standard input and output.
//
//   {"seq":1,"client":"a","op":"connect","url":"mqtt://127.0.0.1:1883","options":{…}}
//   {"seq":1,"session_present":false}          or {"seq":1,"error":"…"}
//   {"client":"a","message":{"topic":"…","payload":"…","qos":1,"retain":false}}    whenever one comes
//
// Operations: connect, subscribe (filters), publish (messages, in order), disconnect (orderly), kill (the socket only).
// Each request has one answer. The end of standard input ends the program.
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')
const readline = require('readline')

const clients = new Map()

function say (what) {
  process.stdout.write(JSON.stringify(what) + '\n')
}

function connect ({ client: name, url, options }) {
  return new Promise((resolve, reject) => {
    const { ca, ...rest } = options
    if (ca) rest.ca = fs.readFileSync(ca)
    const client = mqtt.connect(url, { ...rest, reconnectPeriod: 0, resubscribe: false })
    let closed
    client.closed = new Promise(done => { closed = done })
    client.on('message', (topic, payload, packet) => say({
      client: name,
      message: { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, properties: packet.properties?.userProperties }
    }))
    client.on('connect', packet => { clients.set(name, client); resolve({ session_present: packet.sessionPresent }) })
    client.on('error', reject)
    client.on('close', () => { closed(); reject(new Error('the connection was closed')) })
  })
}

async function subscribe (client, { filters }) {
  const granted = await client.subscribeAsync(Object.fromEntries(filters.map(f => [f.topic, { qos: f.qos }])))
  return { granted: granted.map(g => g.qos) }
}

async function publish (client, { messages }) {
  await Promise.all(messages.map(m => client.publishAsync(m.topic, m.payload, { qos: m.qos, retain: m.retain })))
}

async function disconnect (client) {
  await client.endAsync()
}

async function kill (client) {
  client.stream.destroy()
  await client.closed
}

const operations = { subscribe, publish, disconnect, kill }

async function answer (request) {
  if (request.op === 'connect') return connect(request)
  const client = clients.get(request.client)
  if (!client) throw new Error(`${request.client} is not connected`)
  return operations[request.op](client, request)
}

readline.createInterface({ input: process.stdin })
  .on('line', async line => {
    const request = JSON.parse(line)
    try {
      say({ seq: request.seq, ...await answer(request) })
    } catch (err) {
      say({ seq: request.seq, error: err.message, code: err.code })
    }
  })
  .on('close', () => process.exit(0))
