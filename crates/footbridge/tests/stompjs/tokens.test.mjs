// Tokens: made by `footbridge token make`, shown by stock stomp.js wherever it can, and in no log.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { Session, unique } from './clients.mjs';
import { Log, Node, program } from './node.mjs';

const REFUSED = 4401;
const FORBIDDEN = 4403;

const env = {
  FOOTBRIDGE_ACCESS__JWT_SECRET: 'a secret that is long enough: 32 bytes',
  FOOTBRIDGE_ACCESS__JWT_LEEWAY: '0s',
  FOOTBRIDGE_ACCESS__MAX_FAILURES: '0',
  // What a gateway has by default, and dev has not.
  FOOTBRIDGE_ACCESS__RULES: 'default',
  FOOTBRIDGE_LOG__LEVEL: 'trace,warp=trace',
};

let node;
const made = [];
before(async () => {
  node = await Node.start({ env });
});
after(() => node.stop());

/** A token for `user`, by the command. */
function token(user, ...options) {
  const args = ['token', 'make', user, ...options];
  const text = execFileSync(program(), args, { env: { ...process.env, ...env }, encoding: 'utf8' }).trim();
  made.push(text);
  return text;
}

function bearer(text) {
  return { connectHeaders: { Authorization: `Bearer ${text}` } };
}

/** A session that is not let in: its ERROR's message and close code. */
async function refused(t, url, options) {
  const session = new Session(url, options);
  t.after(() => session.client.deactivate({ force: true }));
  session.client.activate();
  const { headers } = await session.errors.item(0, 'an ERROR');
  const { code } = await session.closed.item(0, 'a close');
  assert.equal(session.connected.length, 0);
  return { message: headers.message, code };
}

test('a token in connectHeaders names the user', async (t) => {
  const session = await Session.connect(t, node.url, bearer(token('ann')));
  assert.equal(session.headers['user-name'], 'ann');
  const messages = await session.subscribe('/topic/public');
  const body = unique('by ann');
  await session.publish('/app/message', body);
  await messages.until((log) => log.some((message) => message.body === body), 'her own message');
});

test('a token in the URL does as well', async (t) => {
  const session = await Session.connect(t, `${node.url}?access_token=${token('bob')}`);
  assert.equal(session.headers['user-name'], 'bob');
});

test('beforeConnect can fetch a token', async (t) => {
  const beforeConnect = async (client) => {
    client.connectHeaders = { token: token('eve') };
  };
  const session = await Session.connect(t, node.url, { beforeConnect });
  assert.equal(session.headers['user-name'], 'eve');
});

test('who shows no token, or one that was changed, is told so', async (t) => {
  const none = await refused(t, node.url);
  assert.equal(none.code, REFUSED);
  assert.match(none.message, /Authorization: Bearer <token>/);
  const [head, , signature] = token('ann').split('.');
  const claims = Buffer.from(JSON.stringify({ sub: 'root', exp: 4102444800 })).toString('base64url');
  const forged = [head, claims, signature].join('.');
  made.push(forged);
  for (const [url, options] of [[node.url, bearer(forged)], [`${node.url}?access_token=${forged}`]]) {
    const { message, code } = await refused(t, url, options);
    assert.equal(code, REFUSED);
    assert.match(message, /signature is wrong/);
  }
});

test('the rules hold for who showed who they are', async (t) => {
  const session = await Session.connect(t, node.url, bearer(token('ann')));
  session.client.publish({ destination: '/topic/public', body: 'not by SEND' });
  assert.match((await session.errors.item(0)).headers.message, /SEND to \/topic\/public is not allowed/);
  assert.equal((await session.closed.item(0)).code, FORBIDDEN);
});

test('a session ends with its token, unless a fresh one comes', async (t) => {
  const ends = await Session.connect(t, node.url, bearer(token('ann', '--ttl', '10s')));
  const stays = await Session.connect(t, node.url, bearer(token('ann', '--ttl', '8s')));
  await stays.publish('/app/~/token', token('ann'));
  assert.match((await ends.errors.item(0, 'the end of a token')).headers.message, /SEND a fresh one to \/app\/~\/token/);
  assert.equal((await ends.closed.item(0)).code, REFUSED);
  // Its first token was over before that one's.
  await stays.publish('/app/message', 'still here');
  assert.equal(stays.closed.length, 0);
});

test('a session goes on with a new connection once its token was renewed', async (t) => {
  const reconnects = new Log();
  const beforeConnect = async (client) => {
    reconnects.add(true);
    client.connectHeaders = { Authorization: `Bearer ${token('ann')}` };
  };
  const session = await Session.connect(t, node.url, { beforeConnect, reconnectDelay: 10 });
  session.break();
  await session.connected.item(1, 'a second CONNECTED');
  assert.equal(reconnects.length, 2);
});

test('no log shows a token, however much is logged', async (t) => {
  const [whole] = [token('mallory')];
  const session = await Session.connect(t, `${node.url}?access_token=${whole}`);
  await session.publish('/app/~/token', token('mallory'));
  await node.output.until((lines) => lines.some((line) => /renewed/.test(line) && /mallory/.test(line)), 'the log of a renewal');
  for (const text of made) {
    const signature = text.split('.')[2];
    assert.equal(node.output.find((line) => line.includes(signature)), undefined);
  }
});
