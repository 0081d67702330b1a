// The console page: /.

import { effect } from "@preact/signals";
import { render } from "preact";
import "../ui/index.css";
import "../peers/peers.css";
import "./console.css";
import "./desk/desk.css";
import { adoptTokenFromAddress } from "../api/token";
import { Icon } from "../ui/icon";
import { Toasts } from "../ui/toast";
import { TokenForm } from "../ui/token-form";
import { Brand, Notice } from "../ui/widgets";
import { ChannelList } from "./channel-list";
import { ChannelPage } from "./channel-page";
import { startClock } from "./clock";
import { CreateDialog } from "./create-dialog";
import { Health } from "./health";
import { RelaysPage } from "./relays";
import { followRoute, newHref, RELAYS_HREF, route } from "./route";
import { Store } from "./store";

function Trouble({ store }: { store: Store }) {
  if (!store.error.value) return null;
  const empty = store.channels.value === undefined;
  return (
    <>
      {empty ? <h1 class="visually-hidden">Console</h1> : null}
      <Notice tone="bad" role="alert" title={store.error.value}>
        {empty ? "" : "What you see may be old. "}The page goes on trying by itself.
      </Notice>
    </>
  );
}

function Content({ store }: { store: Store }) {
  const here = route.value;
  const selected = here.page === "channel" ? here.id : undefined;
  if (store.denied.value) {
    return (
      <div class="narrow">
        <h1 class="visually-hidden">Console</h1>
        <TokenForm
          scope="view"
          more="control changes shows, admin creates them"
          onToken={() => store.restart()}
        />
      </div>
    );
  }
  if (here.page === "relays") return <RelaysPage />;
  return (
    <>
      <Trouble store={store} />
      <div class={selected === undefined ? "console" : "console console--detail"}>
        <section class="console__list" aria-label="All channels">
          <ChannelList store={store} selected={selected} />
        </section>
        {selected === undefined ? null : (
          <div class="console__detail">
            <ChannelPage store={store} id={selected} />
          </div>
        )}
      </div>
      {here.page === "new" ? <CreateDialog store={store} initial={here.id} /> : null}
    </>
  );
}

function ConsolePage({ store }: { store: Store }) {
  return (
    <>
      <a class="skip-link" href="#main">
        Skip to the channels
      </a>
      <header class="topbar">
        <Brand where="Console" />
        <div class="topbar__end">
          <Health store={store} />
          {store.denied.value ? null : (
            <a
              class="topbar__link wide-only"
              href={RELAYS_HREF}
              aria-current={route.value.page === "relays" ? "page" : undefined}
            >
              Relays
            </a>
          )}
          {store.denied.value ? null : (
            <a class="btn btn--narrow" href={newHref()} aria-label="New channel">
              <Icon name="plus" />
              <span class="wide-only">New channel</span>
            </a>
          )}
        </div>
      </header>
      <main class="page stack" id="main" tabIndex={-1}>
        <Content store={store} />
      </main>
      <Toasts />
    </>
  );
}

adoptTokenFromAddress();
followRoute();
startClock();
const store = new Store();
effect(() => {
  const here = route.value;
  store.select(here.page === "channel" ? here.id : undefined);
});
store.start();
const root = document.getElementById("app");
if (root) render(<ConsolePage store={store} />, root);
