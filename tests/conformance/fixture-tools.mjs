// The fixture's tools that answer by themselves.

import { setTimeout as pause } from 'node:timers/promises';
import { fromJsonSchema } from '@modelcontextprotocol/server';
import { PNG, text, WAV } from './fixture-content.mjs';

const STEP_MS = 50;

/** Every keyword that must come through a listing unharmed (SEP-1613, SEP-2106). */
const RICH_SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};

/** A parameter that clients repeat in the header Mcp-Param-Region (SEP-2243). */
const MIRRORED_SCHEMA = {
  type: 'object',
  properties: { region: { type: 'string', description: 'Where to look', 'x-mcp-header': 'Region' } },
  required: ['region'],
};

export function addTools(server, announce) {
  const tool = (name, description, answer) =>
    server.registerTool(name, { description }, async (ctx) => ({ content: await answer(ctx) }));

  tool('test_simple_text', 'One line of text', () => [text('This is a simple text response for testing.')]);
  tool('test_image_content', 'An image', () => [{ type: 'image', data: PNG, mimeType: 'image/png' }]);
  tool('test_audio_content', 'A sound', () => [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }]);

  const resource = (uri, mimeType, content) => ({ type: 'resource', resource: { uri, mimeType, text: content } });
  tool('test_embedded_resource', 'A resource inside the answer', () => [
    resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'),
  ]);
  tool('test_multiple_content_types', 'Text, an image and a resource', () => [
    text('Multiple content types test:'),
    { type: 'image', data: PNG, mimeType: 'image/png' },
    resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
  ]);

  tool('test_error_handling', 'Always fails', () => {
    throw new Error('This tool intentionally returns an error for testing');
  });

  tool('test_tool_with_logging', 'Tells three times how it goes', async ({ mcpReq }) => {
    for (const [at, line] of ['Tool execution started', 'Tool processing data', 'Tool execution completed'].entries()) {
      if (at > 0) await pause(STEP_MS);
      await mcpReq.log('info', line);
    }
    return [text('Logged three times.')];
  });
  tool('test_logging_tool', 'Logs to those who asked for it', async ({ mcpReq }) => {
    await mcpReq.log('info', 'only for those who set a log level');
    return [text('Logged, if that was wanted.')];
  });

  tool('test_tool_with_progress', 'Tells how far it is', async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progress > 0) await pause(STEP_MS);
      if (progressToken === undefined) continue;
      await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } });
    }
    return [text('Done in three steps.')];
  });

  tool('test_reconnection', 'Hangs up before it answers, and answers whoever comes back', async ({ http }) => {
    http?.closeSSE?.();
    // Far longer than the proxy waits before it makes an event stream of an answer: the scenario checks nothing in JSON.
    await pause(20 * STEP_MS);
    return [text('Answered after the stream was closed.')];
  });

  tool('test_trigger_tool_change', 'Tells that the list of tools has changed', () => {
    announce.toolsChanged();
    return [text('Told.')];
  });
  tool('test_trigger_prompt_change', 'Tells that the list of prompts has changed', () => {
    announce.promptsChanged();
    return [text('Told.')];
  });

  const echo = async (given) => ({ content: [text(JSON.stringify(given))] });
  server.registerTool(
    'json_schema_2020_12_tool',
    { description: 'Takes what a rich schema describes', inputSchema: fromJsonSchema(RICH_SCHEMA) },
    echo,
  );
  server.registerTool(
    'test_mirrored_parameter',
    { description: 'Has a parameter that is repeated in a header', inputSchema: fromJsonSchema(MIRRORED_SCHEMA) },
    echo,
  );
}
