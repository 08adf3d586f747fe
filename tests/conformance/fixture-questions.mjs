// The fixture's tools, and one prompt, that ask the client something before they answer. They are written once: a
// 2026-07-28 client gets an InputRequiredResult (SEP-2322), and for an older one the SDK turns that into requests.

import { acceptedContent, createRequestStateCodec, inputRequired, inputResponse } from '@modelcontextprotocol/server';
import { randomBytes } from 'node:crypto';
import { strings, text } from './fixture-content.mjs';

/** Seals what a question carries around through the client. */
export const stateCodec = createRequestStateCodec({ key: randomBytes(32) });

const object = (properties, required) => ({ type: 'object', properties, ...(required && { required }) });
const answered = (words) => ({ content: [text(words)] });

const form = (message, requestedSchema) => inputRequired.elicit({ message, requestedSchema });
const sample = (words, maxTokens) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: text(words) }], maxTokens });

/** What was answered under `key`, if an answer of that kind is there. */
function sampled(responses, key) {
  const found = inputResponse(responses, key);
  if (found.kind !== 'sampling') return undefined;
  const parts = [found.result.content].flat();
  return parts.map((part) => part.text ?? `[${part.type}]`).join('');
}
const roots = (responses, key) => {
  const found = inputResponse(responses, key);
  return found.kind === 'roots' ? found.roots : undefined;
};
const elicited = (responses, key) => {
  const found = inputResponse(responses, key);
  return found.kind === 'elicit' ? found : undefined;
};

const NAME_FORM = form('What is your name?', object({ name: { type: 'string' } }, ['name']));

export function addQuestions(server) {
  const tool = (name, description, answer) => server.registerTool(name, { description }, (ctx) => answer(ctx.mcpReq));
  askOnce(server, tool);
  askForms(tool);
  askInRounds(tool);

  server.registerPrompt('test_input_required_result_prompt', { description: 'Asks for its context' }, ({ mcpReq }) => {
    const given = acceptedContent(mcpReq.inputResponses, 'user_context');
    if (given === undefined) {
      const asked = object({ context: { type: 'string' } }, ['context']);
      return inputRequired({ inputRequests: { user_context: form('What context should the prompt use?', asked) } });
    }
    return { messages: [{ role: 'user', content: text(`Use this context: ${given.context}`) }] };
  });
}

/** One question of each kind. */
function askOnce(server, tool) {
  server.registerTool(
    'test_sampling',
    { description: 'Has the client ask its model', inputSchema: strings({ prompt: 'what to ask' }) },
    ({ prompt }, { mcpReq }) => {
      const said = sampled(mcpReq.inputResponses, 'answer');
      if (said === undefined) return inputRequired({ inputRequests: { answer: sample(prompt, 100) } });
      return answered(`LLM response: ${said}`);
    },
  );

  server.registerTool(
    'test_elicitation',
    { description: 'Has the client ask its user', inputSchema: strings({ message: 'what to ask' }) },
    ({ message }, { mcpReq }) => {
      const found = elicited(mcpReq.inputResponses, 'user');
      if (found !== undefined) {
        return answered(`User response: action: ${found.action}, content: ${JSON.stringify(found.content ?? {})}`);
      }
      const asked = object(
        {
          username: { type: 'string', description: "User's response" },
          email: { type: 'string', description: "User's email address" },
        },
        ['username', 'email'],
      );
      return inputRequired({ inputRequests: { user: form(message, asked) } });
    },
  );

  const asksForName = ({ inputResponses }) => {
    const given = acceptedContent(inputResponses, 'user_name');
    if (typeof given?.name !== 'string') return inputRequired({ inputRequests: { user_name: NAME_FORM } });
    return answered(`Hello, ${given.name}!`);
  };
  tool('test_input_required_result_elicitation', 'Asks for a name', asksForName);
  tool('test_streaming_elicitation', 'Asks for a name, and nothing else on the way', asksForName);

  const asksForCapital = ({ inputResponses }) => {
    const said = sampled(inputResponses, 'capital_question');
    if (said !== undefined) return answered(`The model says: ${said}`);
    return inputRequired({ inputRequests: { capital_question: sample('What is the capital of France?', 100) } });
  };
  tool('test_input_required_result_sampling', 'Asks the model', asksForCapital);
  // The SDK refuses to ask a client what it did not declare, with -32021.
  tool('test_missing_capability', 'Asks the model, of clients that have none too', asksForCapital);

  tool('test_input_required_result_list_roots', 'Asks for the roots', ({ inputResponses }) => {
    const found = roots(inputResponses, 'client_roots');
    if (found !== undefined) return answered(`Roots: ${found.map(({ uri }) => uri).join(', ')}`);
    return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
  });

  tool('test_input_required_result_capabilities', 'Asks only what the client can answer', (request) => {
    // A request says it from 2026-07-28 on; before, the session did when it began.
    const said = request.envelope?.['io.modelcontextprotocol/clientCapabilities'];
    const can = said ?? server.server.getClientCapabilities() ?? {};
    const { inputResponses } = request;
    if (inputResponses !== undefined) return answered(`Answered: ${Object.keys(inputResponses).join(', ')}`);
    const inputRequests = {
      ...(can.elicitation && { user_name: NAME_FORM }),
      ...(can.sampling && { greeting: sample('Generate a greeting', 50) }),
      ...(can.roots && { client_roots: inputRequired.listRoots() }),
    };
    if (Object.keys(inputRequests).length === 0) return answered('There is nothing that this client can be asked.');
    return inputRequired({ inputRequests });
  });
}

/** Forms with defaults (SEP-1034) and with every kind of choice (SEP-1330). */
function askForms(tool) {
  const asks = (name, description, message, schema) =>
    tool(name, description, ({ inputResponses }) => {
      const found = elicited(inputResponses, 'form');
      if (found === undefined) return inputRequired({ inputRequests: { form: form(message, schema) } });
      return answered(`Elicitation completed: action=${found.action}, content=${JSON.stringify(found.content ?? {})}`);
    });

  asks(
    'test_elicitation_sep1034_defaults',
    'A form with a default for each kind of field',
    'Please check these values',
    object({
      name: { type: 'string', default: 'John Doe' },
      age: { type: 'integer', default: 30 },
      score: { type: 'number', default: 95.5 },
      status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
      verified: { type: 'boolean', default: true },
    }),
  );

  const places = ['First', 'Second', 'Third'];
  const titled = (word) => places.map((place, at) => ({ const: `value${at + 1}`, title: `${place} ${word}` }));
  const options = ['option1', 'option2', 'option3'];
  asks(
    'test_elicitation_sep1330_enums',
    'A form with every kind of choice',
    'Please choose',
    object({
      untitledSingle: { type: 'string', enum: options },
      titledSingle: { type: 'string', oneOf: titled('Option') },
      legacyEnum: {
        type: 'string',
        enum: ['opt1', 'opt2', 'opt3'],
        enumNames: ['Option One', 'Option Two', 'Option Three'],
      },
      untitledMulti: { type: 'array', items: { type: 'string', enum: options } },
      titledMulti: { type: 'array', items: { anyOf: titled('Choice') } },
    }),
  );
}

/** Questions with a state that goes through the client and back. */
function askInRounds(tool) {
  const confirm = form('Please confirm', object({ ok: { type: 'boolean' } }, ['ok']));
  const confirmed = async (request) => {
    const [state, found] = [request.requestState(), elicited(request.inputResponses, 'confirm')];
    if (state?.asked === 'confirm' && found !== undefined) return answered(`state-ok: ${found.action}`);
    return inputRequired({ inputRequests: { confirm }, requestState: await stateCodec.mint({ asked: 'confirm' }) });
  };
  tool('test_input_required_result_request_state', 'Recognizes the state that it gave out', confirmed);
  tool('test_input_required_result_tampered_state', 'Refuses a state that it did not give out', confirmed);

  tool('test_input_required_result_multiple_inputs', 'Asks three things at once', async (request) => {
    const { inputResponses } = request;
    const name = acceptedContent(inputResponses, 'user_name')?.name;
    const greeting = sampled(inputResponses, 'greeting');
    const found = roots(inputResponses, 'client_roots');
    if (request.requestState() !== undefined && name && greeting && found) {
      return answered(`${greeting} ${name}, you have ${found.length} roots.`);
    }
    return inputRequired({
      inputRequests: {
        user_name: NAME_FORM,
        greeting: sample('Generate a greeting', 50),
        client_roots: inputRequired.listRoots(),
      },
      requestState: await stateCodec.mint({ asked: 'all' }),
    });
  });

  tool('test_input_required_result_multi_round', 'Asks one thing after the other', async (request) => {
    const state = request.requestState();
    const next = async (key, message, field, kept) =>
      inputRequired({
        inputRequests: { [key]: form(message, object({ [field]: { type: 'string' } }, [field])) },
        requestState: await stateCodec.mint(kept),
      });
    const [first, second] = ['step1', 'step2'].map((key) => acceptedContent(request.inputResponses, key));
    if (state?.round === 2 && second) return answered(`${state.name} likes ${second.color}.`);
    if (state?.round === 1 && first) {
      return next('step2', 'Step 2: What is your favorite color?', 'color', { round: 2, name: first.name });
    }
    return next('step1', 'Step 1: What is your name?', 'name', { round: 1 });
  });
}
