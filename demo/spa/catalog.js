import { send } from './calls.js';

const page = (id) => document.getElementById(id);

/**
 * The shop window: everybody sees it. For a guest Cloakroom calls the API with the application's own token, for a user
 * with the user's; this page does the same in both cases.
 */
export async function showCatalog() {
  const answer = await send({ path: '/api/catalog/products' });
  const { products, caller } = answer.json ?? {};
  if (answer.ok && products && caller) {
    page('products').replaceChildren(...products.map(buildProduct));
    page('catalog-as').textContent = caller.isApplication
      ? 'as a guest: the application’s token'
      : `as ${caller.sub}: the user’s token`;
    page('catalog-as').dataset.as = caller.isApplication ? 'guest' : 'user';
    page('catalog-lost').hidden = true;
    return;
  }
  // The ticket is there and its session is gone. That is no guest: somebody thinks that they are logged in.
  if (answer.status === 401) showLost();
  else page('catalog-as').textContent = answer.text;
}

/** Nobody's products until the person says how to go on. */
export function showLost() {
  page('products').replaceChildren();
  page('catalog-as').textContent = 'the session has ended';
  page('catalog-as').dataset.as = 'lost';
  page('catalog-lost').hidden = false;
}

function buildProduct({ name, price }) {
  const item = document.createElement('li');
  const cost = document.createElement('span');
  cost.textContent = `€ ${price}`;
  item.append(name, cost);
  return item;
}
