// A client of the node, by WebSocket or by SockJS.
//
// What always holds: the subscriptions are the user's. They are made again after every reconnect, until the user
// or the server ends them.

const { Client, Versions } = globalThis.StompJs;

const RECONNECT_MS = 2000;

/** The STOMP client and the subscriptions it should have. Tells `listener` what happens. */
export class Connection {
  #listener;
  #client = null;
  /** id -> { id, destination, received, live, handle } */
  #subscriptions = new Map();
  #numbers = 0;
  #error = null;
  #greeted = false;
  #attempt = 0;

  constructor(listener) {
    this.#listener = listener;
  }

  get active() {
    return this.#client !== null;
  }

  get connected() {
    return this.#client?.connected ?? false;
  }

  get subscriptions() {
    return [...this.#subscriptions.values()];
  }

  /** Connects with these headers, and connects again whenever the connection is lost. An http URL is SockJS's. */
  connect(url, connectHeaders) {
    this.#attempt = 0;
    const client = new Client({
      webSocketFactory: () => this.#open(url),
      connectHeaders,
      reconnectDelay: RECONNECT_MS,
      onConnect: (frame) => this.#connected(frame),
      onStompError: (frame) => this.#failed(frame),
      onWebSocketClose: (event) => this.#closed(client, event),
    });
    this.#client = client;
    client.activate();
  }

  async disconnect() {
    const client = this.#client;
    this.#client = null;
    this.#withoutHandles();
    this.#listener.state("closed");
    // Half-open or not, a connection that is not up yet has nothing to say good-bye to.
    await client?.deactivate({ force: !client.connected });
  }

  subscribe(destination, ack = "auto") {
    const id = `console-${this.#numbers++}`;
    const subscription = { id, destination, ack, received: 0, live: false, handle: null };
    this.#subscriptions.set(id, subscription);
    if (this.connected) this.#make(subscription);
    this.#listener.subscriptions();
  }

  unsubscribe({ id, handle }) {
    handle?.unsubscribe();
    this.#subscriptions.delete(id);
    this.#listener.subscriptions();
  }

  /** Sends, and calls `confirmed` when the node says that it has the message. */
  send(destination, body, headers, confirmed) {
    const receipt = `send-${this.#numbers++}`;
    this.#client.watchForReceipt(receipt, confirmed);
    this.#client.publish({ destination, body, headers: { ...headers, receipt } });
  }

  /** A WebSocket whose traffic the listener sees. */
  #open(url) {
    this.#error = null;
    this.#greeted = false;
    this.#attempt += 1;
    this.#listener.state("connecting", this.#attempt);
    const socket = url.startsWith("http")
      ? new globalThis.SockJS(url)
      : new WebSocket(url, Versions.default.protocolVersions());
    const send = socket.send;
    socket.send = (bytes) => {
      this.#listener.wire("out", bytes);
      send.call(socket, bytes);
    };
    socket.addEventListener("message", ({ data }) => this.#listener.wire("in", data));
    return socket;
  }

  #connected(frame) {
    this.#greeted = true;
    this.#attempt = 0;
    this.#listener.state("open", frame.headers);
    this.#subscriptions.forEach((subscription) => this.#make(subscription));
  }

  #make(subscription) {
    const receipt = `subscribe-${subscription.id}`;
    this.#client.watchForReceipt(receipt, () => {
      subscription.live = subscription.handle !== null;
      this.#listener.subscriptions();
    });
    subscription.handle = this.#client.subscribe(subscription.destination, (message) => {
      subscription.received += 1;
      this.#listener.message(subscription, message);
    }, { id: subscription.id, ack: subscription.ack, receipt });
  }

  #failed({ headers, body }) {
    this.#error = headers.message || body || "ERROR without a message";
    // What the server refused once is not asked for again.
    const refused = /^subscribe-(.*)$/.exec(headers["receipt-id"] ?? "");
    if (refused) this.#subscriptions.delete(refused[1]);
  }

  #closed(client, event) {
    const error = this.#error;
    // The user left; by now there may be another client.
    if (client !== this.#client) return this.#listener.ended(event, error);
    this.#withoutHandles();
    // Refused at the door: it would be refused again.
    const refused = error !== null && !this.#greeted;
    if (refused) {
      client.deactivate();
      this.#client = null;
    }
    this.#listener.state(refused ? "refused" : "waiting", this.#attempt + 1);
    this.#listener.ended(event, error);
  }

  #withoutHandles() {
    for (const subscription of this.#subscriptions.values()) {
      subscription.live = false;
      subscription.handle = null;
    }
    this.#listener.subscriptions();
  }
}
