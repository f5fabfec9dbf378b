// The chat, a service behind /app, as the pages of crates/chat use it: by stomp.js 2.3.3 and by @stomp/stompjs.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import vm from 'node:vm';
import WebSocket from 'ws';
import { Session, unique } from './clients.mjs';
import { Log, Node, Process, built } from './node.mjs';

let chat;
let node;
before(async () => {
  chat = await new Process().spawn(built('chat'), ['127.0.0.1:0'], ['Chat']);
  node = await Node.start({ options: ['--application', chat.said('Chat')] });
});
after(async () => {
  await node.stop();
  await chat.kill();
});

/** stomp.js 2.3.3, as a page loads it: it finds and leaves what it needs in `window`. */
function classic() {
  if (!globalThis.window) {
    globalThis.window = { setInterval, clearInterval };
    const script = new URL('../../../chat/page/stomp.min.js', import.meta.url);
    vm.runInThisContext(readFileSync(script, 'utf8'));
  }
  return globalThis.window.Stomp;
}

/** A client of stomp.js 2.3.3, connected, and what it was told. */
async function connectClassic(t, login) {
  const socket = new WebSocket(node.url);
  t.after(() => socket.terminate());
  const client = classic().over(socket);
  client.debug = null;
  const connected = new Log();
  const errors = new Log();
  client.connect({ login }, () => connected.add(true), (error) => errors.add(error));
  await connected.item(0, 'CONNECTED');
  const subscribe = (destination) => {
    const messages = new Log();
    client.subscribe(destination, (message) => messages.add({ headers: message.headers, body: message.body }));
    return messages;
  };
  return { client, errors, subscribe, socket };
}

/** The lines in messages of one line each. */
function lines(messages) {
  return Array.from(messages, ({ body }) => JSON.parse(body));
}

test('pages of stomp.js 2.3.3 say, whisper, read what was said, and hear of their mistakes', async (t) => {
  const [annName, bobName] = [unique('ann'), unique('bob')];
  const [ann, bob] = [await connectClassic(t, annName), await connectClassic(t, bobName)];
  const [said, whispers, mistakes] = [
    bob.subscribe('/topic/public'), bob.subscribe('/user/queue/whispers'), bob.subscribe('/user/queue/errors'),
  ];
  // Its receipt says that all of that is there.
  const ready = new Log();
  bob.client.onreceipt = (frame) => ready.add(frame.headers['receipt-id']);
  bob.client.subscribe('/topic/other', () => {}, { receipt: 'ready' });
  await ready.item(0);

  const content = unique('hello');
  ann.client.send('/app/message', {}, JSON.stringify({ content }));
  await said.item(0);
  assert.deepEqual(lines(said), [{ sender: annName, content }]);
  assert.equal(said[0].headers['content-type'], 'application/json');

  ann.client.send('/app/whisper', {}, JSON.stringify({ to: bobName, content: 'psst' }));
  await whispers.item(0);
  assert.deepEqual(lines(whispers), [{ sender: annName, content: 'psst' }]);
  assert.equal(whispers[0].headers.destination, '/user/queue/whispers');

  const [history] = lines([await ann.subscribe('/app/history').item(0)]);
  assert.deepEqual(history.at(-1), { sender: annName, content });

  bob.client.send('/app/message', {}, 'no JSON');
  await mistakes.item(0);
  assert.equal(mistakes[0].headers.error, 'bad_message');
  bob.client.send('/app/message', {}, JSON.stringify({ content: 'still here' }));
  await said.item(1);
  assert.equal(lines(said)[1].content, 'still here');
  assert.equal(ann.errors.length + bob.errors.length, 0);
});

test('stock stomp.js does the same, with receipts behind the answers', async (t) => {
  const [annName, bobName] = [unique('ann'), unique('b/o.b')];
  const options = (login) => ({ connectHeaders: { login } });
  const ann = await Session.connect(t, node.url, options(annName));
  const bob = await Session.connect(t, node.url, options(bobName));
  const said = await bob.subscribe('/topic/public');
  const whispers = await bob.subscribe('/user/queue/whispers');
  const others = await ann.subscribe('/user/queue/whispers');
  const mistakes = await ann.subscribe('/user/queue/errors');
  const content = unique('hello');
  await ann.publish('/app/message', JSON.stringify({ content }), { 'x-footbridge-user': 'root' });
  await said.item(0);
  assert.deepEqual(lines(said), [{ sender: annName, content }]);
  await ann.publish('/app/whisper', JSON.stringify({ to: bobName, content: 'psst' }));
  await whispers.item(0);
  assert.deepEqual(lines(whispers), [{ sender: annName, content: 'psst' }]);
  // The answer is there before the receipt is.
  const history = await ann.subscribe('/app/history');
  assert.equal(history.length, 1);
  assert.deepEqual(JSON.parse(history[0].body).at(-1), { sender: annName, content });
  for (const [destination, body, code] of [
    ['/app/message', '{}', 'bad_message'],
    ['/app/whisper', '{"to":"","content":"x"}', 'bad_user'],
    ['/app/nothing', '{}', 'no_handler'],
  ]) {
    const before = mistakes.length;
    const { headers } = await ann.receipted((receipt) => ann.client.publish({ destination, body, headers: receipt }));
    assert.equal(headers.error, code);
    assert.equal(mistakes[before].headers['error-destination'], destination);
  }
  assert.equal(others.length, 0);
  assert.equal(ann.errors.length, 0);
});
