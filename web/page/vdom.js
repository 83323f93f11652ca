// The page as a function of its state: h() says what should be there, render() makes the document so, in place.
//
// What comes from a file, a name or an answer becomes text nodes and attributes, never markup. Inline styles are
// custom properties through the CSSOM, which a policy without 'unsafe-inline' allows. Event handlers are looked up when
// the event comes, so a new function costs no new listener.

const PROPS = Symbol("props");
const KEY = Symbol("key");
const SVG = "http://www.w3.org/2000/svg";
// Of these the property is what people see and change; the attribute is only where it began.
const PROPERTIES = new Set(["value", "checked", "indeterminate", "disabled", "open", "selected"]);
// These would make markup or script of text; nobody needs them here.
const REFUSED = /^(on[a-z]+attr|innerhtml|outerhtml|srcdoc|style)$/i;

/**
 * A wanted element. `props`: attributes (null, undefined and false: none), `on<event>`: handlers, `key`: who it is among
 * its siblings, `vars`: custom properties, `ref`: called with the element when it is made. Children: nodes, text,
 * numbers, nested lists; null and false keep their place empty.
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity) };
}

/** Makes the children of `parent` what is wanted: one node or a list. */
export function render(parent, wanted) {
  reconcile(parent, [wanted].flat(Infinity), parent.namespaceURI === SVG);
}

function reconcile(parent, wanted, svg) {
  const keyed = new Map();
  const loose = [];
  for (const node of parent.childNodes) {
    if (node[KEY] === undefined) loose.push(node);
    else keyed.set(node[KEY], node);
  }
  const kept = new Set();
  let place = 0;
  let at = parent.firstChild;
  for (const one of wanted) {
    const key = one?.props?.key;
    let node = key === undefined ? loose[place++] : keyed.get(String(key));
    if (!node || kept.has(node) || !fits(node, one)) node = make(one, svg);
    else update(node, one, svg);
    kept.add(node);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
}

function fits(node, wanted) {
  if (isNothing(wanted)) return node.nodeType === 8;
  if (!wanted.tag) return node.nodeType === 3;
  return node.nodeType === 1 && node.localName === wanted.tag;
}

function isNothing(wanted) {
  return wanted === null || wanted === undefined || wanted === false || wanted === true;
}

function make(wanted, svg) {
  if (isNothing(wanted)) return document.createComment("");
  if (!wanted.tag) return document.createTextNode(String(wanted));
  const inside = svg || wanted.tag === "svg";
  const element = inside ? document.createElementNS(SVG, wanted.tag) : document.createElement(wanted.tag);
  element[PROPS] = {};
  if (wanted.props.key !== undefined) element[KEY] = String(wanted.props.key);
  update(element, wanted, inside);
  wanted.props.ref?.(element);
  return element;
}

function update(node, wanted, svg) {
  if (isNothing(wanted)) return;
  if (!wanted.tag) {
    if (node.data !== String(wanted)) node.data = String(wanted);
    return;
  }
  const inside = svg || wanted.tag === "svg";
  const before = node[PROPS] ?? {};
  node[PROPS] = wanted.props;
  // Children first: a select takes its value only when its options are there.
  reconcile(node, wanted.children, inside);
  for (const name of Object.keys(before)) if (!(name in wanted.props)) set(node, name, null, before[name]);
  for (const [name, value] of Object.entries(wanted.props)) set(node, name, value, before[name]);
}

function set(node, name, value, before) {
  if (name === "key" || name === "ref") return;
  if (REFUSED.test(name)) throw new Error(`${name} is never set`);
  if (name.startsWith("on")) {
    if (!before && value) node.addEventListener(name.slice(2), dispatch);
    return;
  }
  if (name === "vars") {
    for (const [key, one] of Object.entries(value ?? {})) {
      if (before?.[key] !== one) node.style.setProperty(key, String(one));
    }
    return;
  }
  if (PROPERTIES.has(name) && name in node) {
    const wanted = value ?? (name === "value" ? "" : false);
    if (node[name] !== wanted) node[name] = wanted;
    return;
  }
  if (value === before) return;
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

function dispatch(event) {
  return event.currentTarget[PROPS][`on${event.type}`]?.(event);
}
