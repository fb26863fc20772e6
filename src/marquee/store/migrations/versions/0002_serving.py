"""Serving that learns: experiments, shadow answers, joins of clicks to impressions, search by title."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Hangul as it is typed, letter by letter: `깃` on the way to `기생충` is then a beginning of it.
LETTERS = "".join(
    [
        *(chr(0x1100 + i) for i in range(19)),  # initial consonants
        *(chr(0x1161 + i) for i in range(21)),  # vowels
        *(chr(0x11A8 + i) for i in range(27)),  # final consonants
    ]
)
KEYS = (
    "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
    "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
    "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
)
TWO_KEYS = {
    "ㅘ": "ㅗㅏ", "ㅙ": "ㅗㅐ", "ㅚ": "ㅗㅣ", "ㅝ": "ㅜㅓ", "ㅞ": "ㅜㅔ", "ㅟ": "ㅜㅣ", "ㅢ": "ㅡㅣ",
    "ㄳ": "ㄱㅅ", "ㄵ": "ㄴㅈ", "ㄶ": "ㄴㅎ", "ㄺ": "ㄹㄱ", "ㄻ": "ㄹㅁ", "ㄼ": "ㄹㅂ", "ㄽ": "ㄹㅅ",
    "ㄾ": "ㄹㅌ", "ㄿ": "ㄹㅍ", "ㅀ": "ㄹㅎ", "ㅄ": "ㅂㅅ",
}  # fmt: skip
APART = '\t\n\r!"#$%&()*+,-./:;<=>?@[\\]^_{|}~¡¿«»‐‑‒–—―…·•“”„‹›、。「」『』〈〉《》【】〜・'
DROPPED = "''`´‘’ʼ"  # `schindlers` finds `Schindler's`


def typed(title: str) -> str:
    """SQL of a folded title as the keys that type it, words apart by one space and one before the first."""
    keys = f"translate(normalize({title}, NFKD), '{LETTERS}', '{KEYS}')"
    for compound, pair in TWO_KEYS.items():
        keys = f"replace({keys}, '{compound}', '{pair}')"
    apart = f"translate({keys}, '{APART}{DROPPED}', repeat(' ', {len(APART)}))"
    return f"' ' || btrim(regexp_replace(normalize({apart}, NFC), ' +', ' ', 'g'))"


TABLES = f"""
CREATE TABLE experiments (
    experiment_id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    kind text NOT NULL,
    arms jsonb NOT NULL,
    salt text NOT NULL,
    limits jsonb DEFAULT '{{}}' NOT NULL,
    status text DEFAULT 'running' NOT NULL,
    started_by text NOT NULL,
    reason text NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    ended_at timestamptz,
    outcome jsonb,
    CONSTRAINT experiments_pkey PRIMARY KEY (experiment_id),
    CONSTRAINT experiments_kind_check CHECK (kind IN ('canary', 'ab')),
    CONSTRAINT experiments_status_check CHECK (status IN ('running', 'stopped', 'promoted', 'rolled_back'))
);
CREATE UNIQUE INDEX experiments_running_idx ON experiments (status) WHERE status = 'running';

CREATE TABLE shadow_answers (
    request_id uuid NOT NULL,
    served_at timestamptz NOT NULL,
    bundle text NOT NULL,
    item_ids bigint[] NOT NULL,
    scores real[] NOT NULL,
    agreement real NOT NULL,
    duration_ms real NOT NULL,
    error text
);
CREATE INDEX shadow_answers_served_at_idx ON shadow_answers (served_at);

ALTER TABLE impressions
    ADD COLUMN tier text,
    ADD COLUMN experiment_id bigint,
    ADD COLUMN duration_ms real,
    ADD COLUMN error text;
CREATE INDEX impressions_experiment_id_served_at_idx ON impressions (experiment_id, served_at)
    WHERE experiment_id IS NOT NULL;
CREATE TABLE impressions_rest PARTITION OF impressions DEFAULT;

ALTER TABLE interactions ADD COLUMN request_id uuid;
CREATE INDEX interactions_request_id_idx ON interactions (request_id) WHERE request_id IS NOT NULL;

DROP INDEX interactions_revokes_idx;
CREATE INDEX interactions_undos_idx ON interactions (user_id, source, revokes) WHERE revokes IS NOT NULL;

ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;

CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;
-- unaccent is not immutable, since its dictionary may be replaced; nothing of ours replaces it.
CREATE FUNCTION fold_title(title text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN lower(public.unaccent('public.unaccent'::regdictionary, normalize(title, NFKC)));
CREATE FUNCTION search_title(title text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN {typed("fold_title(title)")};
ALTER TABLE items
    ADD COLUMN popularity real,
    ADD COLUMN search_title text GENERATED ALWAYS AS (search_title(title)) STORED,
    ADD COLUMN search_original_title text GENERATED ALWAYS AS (search_title(original_title)) STORED;
ALTER TABLE item_texts
    ADD COLUMN search_title text GENERATED ALWAYS AS (search_title(title)) STORED;
CREATE INDEX items_fold_title_idx ON items (fold_title(title) COLLATE "C", item_id);
CREATE INDEX items_search_title_idx ON items USING gin (search_title gin_trgm_ops);
CREATE INDEX items_search_original_title_idx ON items USING gin (search_original_title gin_trgm_ops);
CREATE INDEX item_texts_search_title_idx ON item_texts USING gin (search_title gin_trgm_ops);
"""


def upgrade() -> None:
    """Add what serving needs."""
    op.execute(TABLES)


def downgrade() -> None:
    """Take it away again, with what is in it."""
    op.execute(
        """
        DROP INDEX items_fold_title_idx;
        ALTER TABLE items DROP COLUMN popularity, DROP COLUMN search_title,
            DROP COLUMN search_original_title;
        ALTER TABLE item_texts DROP COLUMN search_title;
        DROP FUNCTION search_title(text);
        DROP FUNCTION fold_title(text);
        ALTER TABLE api_keys DROP COLUMN last_used_at;
        DROP INDEX interactions_undos_idx;
        CREATE INDEX interactions_revokes_idx ON interactions (source, revokes) WHERE revokes IS NOT NULL;
        ALTER TABLE interactions DROP COLUMN request_id;
        DROP TABLE impressions_rest;
        ALTER TABLE impressions DROP COLUMN tier, DROP COLUMN experiment_id, DROP COLUMN duration_ms,
            DROP COLUMN error;
        DROP TABLE experiments, shadow_answers
        """
    )
