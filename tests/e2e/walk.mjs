// A person at a browser, as far as a login needs one: follows redirects, keeps cookies, fills in forms and presses the
// button that says yes. It knows no provider.

// A client may put a function of its own in the global one's place.
const { fetch } = globalThis;
const STEPS_MAX = 20;

/** Cookies by origin, name and path: enough for a login. */
class Jar {
  #cookies = [];

  keep(response, url) {
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const at = pair.indexOf('=');
      const found = Object.fromEntries(attributes.map((a) => a.split('=')).map(([k, v]) => [k.toLowerCase(), v]));
      const cookie = { origin: url.origin, name: pair.slice(0, at), value: pair.slice(at + 1), path: found.path ?? '/' };
      this.#cookies = this.#cookies.filter((c) => !(c.origin === cookie.origin && c.name === cookie.name && c.path === cookie.path));
      const over = found.expires !== undefined && Date.parse(found.expires) < Date.now();
      if (!over && found['max-age'] !== '0') this.#cookies.push(cookie);
    }
  }

  header(url) {
    return this.#cookies
      .filter((c) => c.origin === url.origin && url.pathname.startsWith(c.path))
      .map((c) => `${c.name}=${c.value}`)
      .join('; ');
  }
}

const attribute = (tag, name) => {
  const found = new RegExp(`\\b${name}\\s*=\\s*"([^"]*)"`, 'i').exec(tag);
  return found?.[1].replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'");
};

/** The first form of a page, filled in. */
function form(html, url) {
  const found = /<form\b[^>]*>([\s\S]*?)<\/form>/i.exec(html);
  if (!found) throw new Error(`no form at ${url}: ${html.replace(/<style[\s\S]*?<\/style>/g, '').replace(/<[^>]+>/g, ' ').slice(0, 400)}`);
  const body = new URLSearchParams();
  for (const [tag] of found[1].matchAll(/<input\b[^>]*>/gi)) {
    const [name, type] = [attribute(tag, 'name'), attribute(tag, 'type') ?? 'text'];
    if (!name || type === 'submit') continue;
    if (type === 'checkbox' || type === 'radio') {
      if (/\schecked\b/i.test(tag)) body.append(name, attribute(tag, 'value') ?? 'on');
      continue;
    }
    body.append(name, type === 'hidden' ? (attribute(tag, 'value') ?? '') : type === 'password' ? 'secret' : 'alice');
  }
  const buttons = [...found[1].matchAll(/<button\b[^>]*>/gi)].map(([tag]) => [attribute(tag, 'name'), attribute(tag, 'value')]);
  const yes = buttons.find(([name, value]) => name && /approve|allow|yes|accept|grant/i.test(value ?? ''));
  if (yes) body.append(yes[0], yes[1]);
  return { action: new URL(attribute(found[0], 'action') || url, url), body };
}

/** Walks from an authorization URL to the client's redirect URI, and gives that whole URL. */
export async function walk(start, redirectUri) {
  const jar = new Jar();
  let [url, request] = [new URL(start), {}];
  for (let step = 0; step < STEPS_MAX; step += 1) {
    const headers = { ...request.headers, cookie: jar.header(url) };
    const response = await fetch(url, { ...request, headers, redirect: 'manual', signal: AbortSignal.timeout(10_000) });
    jar.keep(response, url);
    const location = response.headers.get('location');
    if (location) {
      url = new URL(location, url);
      request = {};
      if (url.href.startsWith(redirectUri)) return url;
    } else if (response.status === 200) {
      const { action, body } = form(await response.text(), url);
      request = { method: 'POST', body, headers: { origin: url.origin } };
      url = action;
    } else {
      throw new Error(`${response.status} at ${url}: ${(await response.text()).slice(0, 400)}`);
    }
  }
  throw new Error(`still not back after ${STEPS_MAX} steps, at ${url}`);
}
