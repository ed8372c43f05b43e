// The glossary: every measure and word of the page, explained once. Tips beside words and the Learn tab read it.

/**
 * By section, then by the last part of a metric's or a setting's name, or by a word of its own: title and explanation.
 * @type {Object<string, Object<string, [string, string]>>}
 */
export const GLOSSARY = {
  "What is reached": {
    loss: ["Loss", "How surprised a model is by the right answers: the mean of minus the logarithm of the probability "
      + "that it gives to each of their tokens. Less is better."],
    nats: ["Nats per token", "The unit of the loss, by the natural logarithm: 0 is certainty, 0.69 is a choice "
      + "between two equally likely tokens, 2.3 between ten."],
    best: ["Lowest validation loss", "The lowest of all validation losses of a run, at whatever step that was."],
    perplexity: ["Perplexity", "e to the power of the loss: among so many equally likely tokens a model seems to "
      + "choose. Less is better."],
    bleu: ["BLEU", "How many sequences of one to four words of the answers stand in the references, with a penalty for "
      + "answers that are too short; over all test rows, from 0 to 100, by sacrebleu."],
    chrf: ["chrF", "The F-score of sequences of up to six letters that answers and references share, recall counting "
      + "twice; from 0 to 100, by sacrebleu. It forgives endings that BLEU does not."],
    rouge1: ["ROUGE-1", "The F-score of single words that answer and reference share; from 0 to 100."],
    rouge2: ["ROUGE-2", "The F-score of pairs of neighbouring words that answer and reference share; from 0 to 100."],
    rougeL: ["ROUGE-L", "The F-score of the longest sequence of words that stands in answer and reference in the same "
      + "order; from 0 to 100."],
    accuracy: ["Accuracy", "The share of test rows that are answered with the right label, in per cent."],
    macro_f1: ["Macro F1", "The F1 of each label, averaged so that a rare label counts as much as a frequent one; from "
      + "0 to 100."],
    slot_accuracy: ["Slots right", "Slots are the facts that a prompt names, such as the food or the price. The share "
      + "of all of them that the answers state, in per cent."],
    slots_exact: ["All slots right", "The share of test rows whose answer states every fact of its prompt."],
    name_accuracy: ["Names right", "The share of test rows whose answer has the name letter by letter."],
    base: ["Base model", "The pre-trained model that training starts from, as it was. What an adapter is worth is the "
      + "difference from it."],
    other: ["Other rows", "Figures that were measured on other rows do not compare: another file, model or length."],
  },
  "What it costs": {
    trainable_params: ["Trainable parameters", "How many numbers training may change. All others are frozen."],
    trainable_share: ["Trainable share", "Trainable parameters over all parameters of the model with its adapter."],
    adapter_bytes: ["Adapter file", "The size of what is saved. The base model is not in it."],
    peak_memory_bytes: ["Peak memory", "The most memory that the run's process held at any time, libraries included."],
    seconds: ["Training time", "From the start to the end of a run: loading, steps, evaluations and answers."],
    answer_seconds: ["Time per answer", "Seconds for each answer to a test row, several at a time, without sampling."],
    frontier: ["Frontier", "What nothing else beats: whatever costs less is worse, whatever is better costs more. Also "
      + "called the Pareto frontier."],
  },
  Methods: {
    adapter: ["Adapter", "What a run saves: the few weights that it trained or added. It is of use only together with "
      + "its base model."],
    mergeable: ["Mergeable", "What was learned can be added into the base model's own weights. Generating then costs "
      + "nothing more, but the adapter can no longer be taken off."],
    mixed_batch: ["Mixed batch", "Each row of a batch may use an adapter of its own, so that one model in memory "
      + "serves many adapters at a time."],
    no_added_latency: ["No added latency", "Generating is as fast as with the base model alone, if need be after "
      + "merging."],
    rank: ["Rank", "How many directions an update of a weight matrix may have: it is the product of two thin matrices "
      + "of this width. Parameters grow with it."],
    alpha: ["Alpha", "The update is multiplied by alpha over rank. A larger alpha acts like a larger learning rate."],
    rslora: ["rsLoRA", "Multiplies the update by alpha over the root of the rank, which keeps large ranks stable."],
    dora: ["DoRA", "Trains the length of each output's weights apart from their direction."],
    targets: ["Targets", "Which matrices of each block get an update: those of attention, of the feed-forward part "
      + "(mlp), or all."],
    dropout: ["Dropout", "The share of the inputs of an update that is left out at random at each step, against "
      + "learning by heart."],
    virtual_tokens: ["Virtual tokens", "How many trained vectors stand before the text, where words would."],
    bottleneck_dim: ["Bottleneck width", "Width of the small network that is put into a block: it narrows the stream "
      + "to this and widens it again."],
    frozen: ["Frozen", "Parameters that training leaves as they are."],
  },
  Training: {
    id: ["Base model or task", "What is trained, and on which data."],
    name: ["Method", "Which parameters train, and which are added."],
    max_steps: ["Steps", "Updates of the trained weights, each from one batch, or from several with accumulation."],
    epochs: ["Epochs", "Passes over all training rows; 0 leaves it to the number of steps."],
    batch_size: ["Batch size", "How many rows go through the model at once."],
    gradient_accumulation: ["Gradient accumulation", "So many batches make one step, as if they were one large one."],
    learning_rate: ["Learning rate", "How far a step goes. Too low learns little, too high diverges; methods with few "
      + "parameters want more of it."],
    scheduler: ["Scheduler", "How the learning rate falls from its peak to the end of a run."],
    warmup_steps: ["Warm-up", "How long the learning rate rises to its peak: a share of the run, or steps."],
    optimizer: ["Optimizer", "The rule that makes a step of a gradient; AdamW adapts it to each weight."],
    weight_decay: ["Weight decay", "Pulls trained weights towards zero at each step."],
    max_grad_norm: ["Max grad norm", "Gradients that are longer are shortened to this; 0 leaves them."],
    seed: ["Seed", "Where chance starts. Equal seeds give equal runs; several show how much of a result is chance."],
    train_rows: ["Training rows", "How many rows a run may learn from; fewer are always among more."],
    eval_every: ["Eval every", "Steps between two validation losses."],
    eval_rows: ["Eval rows", "At most so many validation and test rows are used."],
    early_stopping: ["Early stopping", "Ends a run after so many evaluations without a better one, and keeps the best "
      + "weights."],
    precision: ["Precision", "bf16 computes with 16 bits for each number, fp32 with 32."],
    gradient_checkpointing: ["Gradient checkpointing", "Computes activations a second time instead of keeping them: "
      + "less memory, more time."],
    max_length: ["Max length", "Longest row in tokens; longer ones are cut."],
    token: ["Token", "A piece of text, from a letter to a word, which a model reads and writes at once."],
    smoothing: ["Smoothing", "Draws the mean of the steps before, the nearer ones counting more; the pale line is what "
      + "was measured."],
    validation: ["Validation loss", "The loss on rows that are never trained on; it tells learning from remembering."],
  },
  "Inside and experiments": {
    delta_w: ["ΔW", "What a method has changed of a weight matrix: the merged weight minus the base's."],
    effective_rank: ["Effective rank", "How many directions of an update matter, from its singular values: rank 8 may "
      + "use only three."],
    intruder: ["Intruder dimension", "A strong direction of the new weights that is like none of the base model's; "
      + "such go with forgetting."],
    forgetting: ["Forgetting", "How much the loss on general text has risen by learning the task."],
    adapter_strength: ["Strength", "How much of an adapter is added: 0 is the base model, 1 what was trained."],
    spread: ["Spread", "How far runs lie apart that differ in nothing but their seed."],
    interval: ["Interval", "A range that holds the true figure in about 95 of 100 such experiments; found by drawing "
      + "rows and seeds again and again (bootstrap)."],
    tie: ["Tie", "What the interval cannot tell apart. More seeds or rows may."],
    own_rates: ["Own rates", "Each method gets the learning rate that suits it, found by short runs on validation "
      + "rows, so that none loses by its rate alone."],
    equal_parameters: ["Equal budget", "Ranks and widths are chosen so that all methods train about as many "
      + "parameters."],
  },
};

const entries = new Map(Object.values(GLOSSARY).flatMap((section) => Object.entries(section)));

/**
 * @param {string} name A metric, a cost or the path of a setting.
 * @returns {?string} The key of the entry that explains it; null where there is none.
 */
export function termOf(name) {
  const key = name.split(/[/.]/).at(-1);
  return entries.has(key) ? key : null;
}

/**
 * An entry.
 * @param {string} key
 * @returns {?{title: string, says: string}}
 */
export function entryOf(key) {
  const found = entries.get(key);
  return found ? { title: found[0], says: found[1] } : null;
}
