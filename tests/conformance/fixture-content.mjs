// What the fixture has to show: prompts, resources, and completions for their arguments.

import { fromJsonSchema, ResourceNotFoundError, ResourceTemplate } from '@modelcontextprotocol/server';

/** One red pixel. */
export const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mO4oKAAAALUARHyogz6AAAAAElFTkSuQmCC';
/** A millisecond of silence. */
export const WAV = 'UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==';

export const text = (words) => ({ type: 'text', text: words });
export const strings = (described, required = Object.keys(described)) =>
  fromJsonSchema({
    type: 'object',
    properties: Object.fromEntries(
      Object.entries(described).map(([name, description]) => [name, { type: 'string', description }]),
    ),
    required,
  });

const user = (content) => ({ role: 'user', content });

export function addPrompts(server) {
  server.registerPrompt('test_simple_prompt', { description: 'One message, without arguments' }, () => ({
    messages: [user(text('This is a simple prompt for testing.'))],
  }));

  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'Repeats its arguments', argsSchema: strings({ arg1: 'the first', arg2: 'the second' }) },
    ({ arg1, arg2 }) => ({ messages: [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))] }),
  );

  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'Carries a resource', argsSchema: strings({ resourceUri: 'the URI that the resource shall have' }) },
    ({ resourceUri: uri }) => {
      const resource = { uri, mimeType: 'text/plain', text: 'Embedded resource content for testing.' };
      return {
        messages: [user({ type: 'resource', resource }), user(text('Please process the embedded resource above.'))],
      };
    },
  );

  server.registerPrompt('test_prompt_with_image', { description: 'Carries an image' }, () => ({
    messages: [
      user({ type: 'image', data: PNG, mimeType: 'image/png' }),
      user(text('Please analyze the image above.')),
    ],
  }));

  const cities = ['paris', 'park', 'party', 'quito', 'rome'];
  server.server.setRequestHandler('completion/complete', ({ params }) => {
    const values = cities.filter((city) => city.startsWith(params.argument.value.toLowerCase()));
    return { completion: { values, total: values.length, hasMore: false } };
  });
}

export function addResources(server) {
  const still = (name, uri, mimeType, description, body) =>
    server.registerResource(name, uri, { description, mimeType }, () => ({ contents: [{ uri, mimeType, ...body }] }));
  still('static-text', 'test://static-text', 'text/plain', 'Text that stays as it is', {
    text: 'This is the content of the static text resource.',
  });
  still('static-binary', 'test://static-binary', 'image/png', 'An image that stays as it is', { blob: PNG });
  still('watched', 'test://watched-resource', 'text/plain', 'Text that can be subscribed to', {
    text: 'Watched resource content.',
  });

  server.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'Data by its number', mimeType: 'application/json' },
    (uri, { id }) => {
      const data = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
      return { contents: [{ uri: uri.href, mimeType: 'application/json', text: data }] };
    },
  );

  const watched = new Set();
  server.server.setRequestHandler('resources/subscribe', ({ params }) => {
    watched.add(params.uri);
    return {};
  });
  server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    if (!watched.delete(params.uri)) throw new ResourceNotFoundError(params.uri);
    return {};
  });
}
